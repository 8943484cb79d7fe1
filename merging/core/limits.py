"""How much is read of a file that others wrote, kind by kind. ``docs/security.md`` has the same as a table.

The numbers are far above what real files have and far below what hurts: within them every reader ends in seconds and in
a few hundred megabytes besides what the file itself takes.
"""

MAX_SUITE_BYTES = 2 * 2**20
MAX_RECIPE_BYTES = 16 * 2**20
MAX_SWEEP_BYTES = 64 * 2**10
MAX_LESSON_BYTES = 64 * 2**10  # of a lesson that a teacher prepared
MAX_LESSON_TEXT = 4000  # letters of its words for one step
MAX_SHIPPED_BYTES = 3 * 2**20  # of results that come with a suite, packed
MAX_SHIPPED_TEXT = 64 * 2**20  # and unpacked
MAX_MOVED_RUNS = 100_000  # in a file of runs that somebody else exported
MAX_MOVED_LINE = 32 * 2**20  # of one of them
MAX_MOVED_TEXT = 512 * 2**20  # of all of them, unpacked
MAX_YAML_VALUES = 250_000  # with aliases written out: a few lines of them can stand for billions
MAX_YAML_DEPTH = 50

MAX_JSON_BYTES = 2**20  # of a configuration
MAX_INDEX_BYTES = 32 * 2**20  # of a list of shards or of classes: a line a tensor, or a picture
MAX_JSON_VALUES = 2_000_000

MAX_HEADER_BYTES = 100 * 2**20  # of a safetensors file, as in its own library
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 16
MAX_TENSOR_NAME = 1000  # characters

MAX_PICKLE_BYTES = 32 * 2**20
MAX_PICKLE_OPERATIONS = 1_000_000  # a pickled ViT-L/14 has less than a tenth of that

MAX_TUPLE_DEPTH = 50  # of tuples in tuples in a pickle; tensors need three
MAX_TUPLE_VALUES = 1_000_000  # in one of them, each counted as often as it is meant

MAX_MEMBERS = 100_100  # of a zip archive: a tensor each, and a few more
MAX_DIRECTORY_BYTES = 16 * 2**20  # of a zip archive
MAX_GROWTH = 100  # times that compressed arrays may grow, once they are larger than
MAX_SMALL_BYTES = 256 * 2**20

MAX_IMAGE_BYTES = 256 * 2**20  # of one image's file
MAX_PIXELS = 89_478_485  # from here on Pillow takes a file for an attack on memory
MAX_IMAGES = 10_000_000  # of a split
MAX_CELLS_BYTES = 2**30  # of the pictures of a parquet file that are in memory at once
