"""``python -m benchmarks.gpu``, or ``make gpu``: merges on a GPU, timed as multiples of reading the files onto it.

For a machine with a GPU and nothing else to reach. It makes random models of ViT-B/32, times every data-free method
twice, with nothing on the card and again with the models there, compares each result with that of the CPU beside it,
and runs the tests that are marked ``gpu``. Lines of the table come as soon as they are measured, and the JSON is
written anew with each. What there is no time for is left out and named.
"""
