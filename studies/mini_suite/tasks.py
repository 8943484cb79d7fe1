"""The eight tasks: their classes, the prompts of their zero-shot heads, and the words that captions use for them.

A class has a *name*, which prompts use, and *wordings*, which precise captions use. The two hardly overlap, as on the
web: a picture's caption seldom says what a prompt says. Extra classes occur in pre-training only.
"""

from __future__ import annotations

from dataclasses import dataclass

GENERIC_TEMPLATES = (
    "a photo of a {}.",
    "a picture of a {}.",
    "a blurry photo of the {}.",
    "a small image of a {}.",
    "an image of the {}.",
)


@dataclass(frozen=True)
class Task:
    """One task. `wordings` holds all classes, those of the task first (`classes`), then the extra ones."""

    name: str
    title: str
    description: str
    source: str
    licence: str
    class_count: int
    wordings: dict[str, tuple[str, ...]]
    frames: tuple[str, ...]
    vague: tuple[str, ...]
    templates: tuple[str, ...] = GENERIC_TEMPLATES

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes a model of this task tells apart, in the order of the labels."""
        return tuple(self.wordings)[: self.class_count]


_RENDERED = "rendered by studies/mini_suite"
_MIT = "MIT"

DIGITS = Task(
    "digits",
    "Handwritten digits",
    "Real handwritten digits, scanned at 8 × 8 grey levels and enlarged.",
    "UCI Optical Recognition of Handwritten Digits (1998), as shipped in scikit-learn",
    "CC BY 4.0",
    10,
    {
        "zero": ("0", "nought"),
        "one": ("1", "a single upright stroke"),
        "two": ("2", "a couple, 2"),
        "three": ("3", "a trio, 3"),
        "four": ("4", "a quartet, 4"),
        "five": ("5", "a quintet, 5"),
        "six": ("6", "half a dozen, 6"),
        "seven": ("7", "lucky 7"),
        "eight": ("8", "an octet, 8"),
        "nine": ("9", "one short of ten, 9"),
    },
    (
        "handwritten {what}",
        "{what} in {weight} pencil",
        "scanned form field: {what}",
        "someone wrote {what}, {weight} pen",
    ),
    ("handwriting sample", "a scribbled digit"),
    ('a photo of the number "{}".', "a handwritten {}.", "a scan of the digit {}.", "the written number {}."),
)

FASHION = Task(
    "fashion",
    "Fashion products",
    "Real grey product photographs of clothes, shoes and bags.",
    "Fashion-MNIST (Xiao, Rasul, Vollgraf 2017), a subset",
    _MIT,
    10,
    {
        "t-shirt": ("crew neck tee", "short sleeved top"),
        "trouser": ("pair of jeans", "long pants"),
        "pullover": ("knitted jumper", "warm sweater"),
        "dress": ("evening gown", "summer frock"),
        "coat": ("winter jacket", "zipped parka"),
        "sandal": ("open toed heels", "flip flops with straps"),
        "shirt": ("button up blouse", "collared oxford"),
        "sneaker": ("running footwear", "low trainer"),
        "bag": ("leather handbag", "purse with handle"),
        "ankle boot": ("high top bootie", "laced up winter footwear"),
    },
    (
        "{what}, {tone} fabric",
        "new arrival: {what}",
        "{what}, {tone}, size m",
        "online shop: {what}",
        "for sale, {tone} {what}",
    ),
    ("a fashion item", "something to wear"),
    ("a photo of a {}.", "a product photo of a {}.", "a grey picture of a {}.", "an online shop's {}."),
)

HOUSE_NUMBERS = Task(
    "housenumbers",
    "House numbers",
    "One coloured digit amid parts of others, in eight typefaces.",
    _RENDERED,
    _MIT,
    10,
    {
        "zero": ("0", "nil"),
        "one": ("1", "first, 1"),
        "two": ("2", "second, 2"),
        "three": ("3", "third, 3"),
        "four": ("4", "fourth, 4"),
        "five": ("5", "fifth, 5"),
        "six": ("6", "sixth, 6"),
        "seven": ("7", "seventh, 7"),
        "eight": ("8", "eighth, 8"),
        "nine": ("9", "ninth, 9"),
    },
    (
        "door plate {what}",
        "{what} at the entrance",
        "{what} on a {ground} wall",
        "our address ends in {what}",
        "street plate reading {what}, {ink}",
    ),
    ("a number at a house", "numbers on a wall"),
    (
        'a street sign of the number "{}".',
        "the house number {}.",
        "a photo of the number {} on a wall.",
        "a house with the {}.",
    ),
)

# fmt: off
_NATO = (
    "bravo", "charlie", "echo", "foxtrot", "golf", "hotel", "kilo", "mike", "romeo", "sierra",
    "alpha", "delta", "india", "juliett", "lima", "november", "oscar", "papa", "quebec", "tango",
    "uniform", "victor", "whiskey", "x-ray", "yankee", "zulu",
)
# fmt: on

LETTERS = Task(
    "letters",
    "Printed letters",
    "A capital letter in eight typefaces, on plain or littered ground.",
    _RENDERED,
    _MIT,
    10,
    {word[0]: (word, f"{word} initial") for word in _NATO},
    (
        "{what} in {font} type",
        "capital as in {what}",
        "{what} printed {ink}",
        "alphabet card: {what}",
        "monogram {what}",
    ),
    ("a printed character", "some type"),
    ('a photo of the letter "{}".', "the capital letter {}.", "a printed {}.", "the letter {} on paper."),
)

SIGNS = Task(
    "signs",
    "Traffic signs",
    "European traffic signs near and far, turned, faded and half hidden.",
    _RENDERED,
    _MIT,
    10,
    {
        "stop": ("red octagon", "halt plate with eight sides"),
        "yield": ("inverted red triangle", "give way plate"),
        "no entry": ("white bar on red disc", "one way street, wrong end"),
        "priority road": ("yellow diamond plate", "main street rhombus"),
        "speed limit 30": ("30 in a red circle", "thirty kilometres per hour maximum"),
        "speed limit 80": ("80 in a red circle", "eighty kilometres per hour maximum"),
        "turn left": ("blue disc, bent arrow pointing west", "mandatory port side"),
        "turn right": ("blue disc, bent arrow pointing east", "mandatory starboard side"),
        "road works": ("triangle with a digging man", "men working ahead, triangle"),
        "pedestrian crossing": ("triangle with a walking person", "zebra ahead, triangle"),
        "straight ahead": ("blue disc, vertical arrow", "mandatory forward"),
        "roundabout": ("blue disc, three curved arrows", "traffic circle"),
        "no parking": ("blue disc crossed by red", "leave no car here"),
        "danger": ("triangle with exclamation mark", "caution triangle"),
        "level crossing": ("triangle with a fence", "railway barrier ahead"),
        "speed limit 50": ("50 in a red circle", "fifty kilometres per hour maximum"),
    },
    (
        "{what}, {weather} day",
        "{what} seen {distance}",
        "on our street: {what}",
        "dash cam: {what}",
    ),
    ("a traffic sign", "something by the street"),
    (
        "a photo of a {} traffic sign.",
        'a "{}" sign.',
        "the {} sign by the street.",
        "a close up of the {} traffic sign.",
    ),
)

SHAPES = Task(
    "shapes",
    "Plane shapes",
    "One plane figure of any colour, size and rotation, sometimes crossed by a bar.",
    _RENDERED,
    _MIT,
    10,
    {
        "circle": ("round disc", "full moon outline"),
        "square": ("four equal sides box", "quadratic tile"),
        "triangle": ("three cornered figure", "trilateral"),
        "star": ("five pointed pentagram", "sheriff badge"),
        "heart": ("valentine symbol", "love emblem"),
        "cross": ("plus symbol", "first aid emblem"),
        "ring": ("thick hoop", "donut"),
        "crescent": ("waxing moon", "sickle"),
        "pentagon": ("five sided figure", "house outline with 5 edges"),
        "arrow": ("pointer", "shaft with a tip"),
        "hexagon": ("six sided figure", "nut outline"),
        "diamond": ("rhombus", "playing card lozenge"),
        "ellipse": ("oval", "egg outline"),
        "rectangle": ("oblong box", "brick outline"),
        "trapezoid": ("lampshade outline", "quadrilateral narrowing upward"),
        "half circle": ("dome upside down", "semicircular bowl"),
    },
    (
        "{ink} {what}",
        "{what}, {finish}",
        "outline of a {what}",
        "{size} {what}",
        "geometry: {what}",
    ),
    ("a geometric figure", "a drawing"),
    ("a photo of a {}.", "a drawing of a {}.", "a {} on a plain background.", "the shape of a {}."),
)

TEXTURES = Task(
    "textures",
    "Textures",
    "Surfaces with a repeating or random pattern, at several scales, warped and noisy.",
    _RENDERED,
    _MIT,
    10,
    {
        "striped": ("parallel bands", "pinstripe lines"),
        "checkered": ("chessboard", "alternating tiles"),
        "dotted": ("polka spots", "regular pips"),
        "grid": ("crossing thin bars", "wire mesh"),
        "zigzagged": ("chevrons", "sawtooth lines"),
        "marbled": ("veined stone", "swirling ink"),
        "wooden": ("plank with rings", "timber grain"),
        "brick": ("masonry courses", "mortar and clay blocks"),
        "woven": ("basket weave", "cloth threads over and under"),
        "honeycombed": ("hexagonal cells", "bee wax comb"),
        "speckled": ("random flecks", "granite grains"),
        "wavy": ("ripples", "undulating lines"),
        "scaly": ("fish skin", "roof shingles"),
        "spiralled": ("coiled swirl", "snail whorl"),
        "cracked": ("dried mud", "broken glaze"),
        "crosshatched": ("diagonal pen strokes crossing", "engraved shading"),
    },
    (
        "{what}, {ink} and {ground}",
        "wallpaper with {what}",
        "{size} {what}",
        "material with {what}",
        "close up: {what}",
    ),
    ("some texture", "a surface"),
    ("a photo of a {} texture.", "a {} pattern.", "a photo of something {}.", "a {} surface."),
)

LANDCOVER = Task(
    "landcover",
    "Land cover",
    "Land seen from above in three seasons, sometimes under thin cloud.",
    _RENDERED,
    _MIT,
    10,
    {
        "forest": ("dense canopy of trees", "woodland"),
        "river": ("winding stream", "watercourse"),
        "highway": ("motorway with marking", "asphalt lanes"),
        "residential area": ("suburb with many small roofs", "family homes and gardens"),
        "industrial area": ("big factory halls", "warehouses on concrete"),
        "cropland": ("patchwork of farm plots", "ploughed parcels"),
        "orchard": ("fruit trees in rows", "plantation of single crowns"),
        "lake": ("round body of fresh water", "pond with banks all around"),
        "beach": ("sandy coast with surf", "seaside strand"),
        "desert": ("sand dunes", "arid ripples"),
        "meadow": ("grass only", "pasture"),
        "snowfield": ("glacier ice", "white alpine cover"),
        "vineyard": ("grape lines", "wine hill stripes"),
        "car park": ("lot full of automobiles", "parked vehicles"),
        "cliff": ("rocky coast", "stone shore"),
        "open sea": ("ocean far from land", "waves only"),
    },
    (
        "aerial view, {what}, {season}",
        "{what} from a drone",
        "satellite tile: {what}",
        "flight over {what}, {sky}",
        "map layer with {what}",
    ),
    ("land from above", "an aerial photo"),
    (
        "a satellite photo of a {}.",
        "an aerial photo of {}.",
        "a {} seen from above.",
        "a centered satellite photo of the {}.",
    ),
)

TASKS = (DIGITS, FASHION, HOUSE_NUMBERS, LANDCOVER, LETTERS, SHAPES, SIGNS, TEXTURES)
BY_NAME = {task.name: task for task in TASKS}
