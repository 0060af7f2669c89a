"""`lstm-ext bench --device cuda`: this package beside cuDNN, on a GPU.

`cases` makes the data, in sets that together outgrow the chip's L2 cache; `subjects` runs them here
and in torch; `clock` measures with CUDA events; `run` goes through it all and prints the table.
"""
