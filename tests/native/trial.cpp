// Trials of work that takes a known time. Arguments: alone, by a team, and how often. Prints how
// often it was done by a team, and how it was done at last.
#include "cpu/trial.hpp"

#include <cstdio>
#include <cstdlib>

int main(int, char** arguments) {
  const int64_t alone = std::atoll(arguments[1]), by_team = std::atoll(arguments[2]);
  const int times = std::atoi(arguments[3]);
  lstm_ext::cpu::Trial trial;
  int teams = 0;
  bool last = false;
  for (int i = 0; i < times; ++i) {
    last = trial.by_team();
    teams += last;
    // The first of a turn takes long: to change is not what is compared.
    const bool changes = trial.tries() && i % lstm_ext::cpu::Trial::kTurn == 0;
    trial.done(trial.tries() ? (last ? by_team : alone) * (changes ? 100 : 1) : 0);
  }
  std::printf("%d %d\n", teams, last);
}
