"""A coarse category for a gift shop's product, read off its description.

The data set has no category column, and a ranker needs to know what kind of thing a person buys. The words are fixed here,
as a shop would fix its departments: nothing is counted over the file, so a category says nothing about what sold later.
"""

from __future__ import annotations

import re

OTHER = "other"

# Occasions come first: a Christmas candle sells like Christmas, not like candles.
_OCCASIONS = {
    "christmas": "CHRISTMAS XMAS ADVENT SANTA REINDEER SNOWMAN SNOWFLAKE",
    "easter": "EASTER BUNNY CHICK",
    "party": "BIRTHDAY PARTY BUNTING BALLOON BALLOONS",
}
_NOUNS = {
    "apron": "APRON GLOVE GLOVES",
    "bag": "BAG HANDBAG SHOPPER",
    "basket": "BASKET TRUG BIN",
    "bathroom": "TOWEL SOAP BATH BATHROOM SPONGE FLANNEL WASHBAG",
    "book": "NOTEBOOK SKETCHBOOK BOOK JOURNAL ALBUM DIARY ORGANISER PLANNER",
    "bottle": "BOTTLE FLASK JUG PITCHER",
    "bowl": "BOWL DISH",
    "box": "BOX",
    "bracelet": "BRACELET BANGLE",
    "cabinet": "CABINET DRAWER SHELF CHEST CUPBOARD TABLE CHAIR STOOL",
    "candle": "CANDLE INCENSE",
    "candle holder": "HOLDER T-LIGHT CANDLEHOLDER CANDLESTICK LANTERN VOTIVE BURNER",
    "card": "CARD POSTCARD GREETING ENVELOPE",
    "charm": "CHARM",
    "clock": "CLOCK",
    "craft": "KIT FELTCRAFT SEWING KNITTING CRAFT YARN",
    "cushion": "CUSHION QUILT THROW BLANKET",
    "cutlery": "CUTLERY SPOON FORK KNIFE",
    "decoration": "DECORATION GARLAND WREATH BAUBLE BELL BALL",
    "doormat": "DOORMAT MAT RUG",
    "earrings": "EARRING",
    "flower": "FLOWER ROSE DAISY ORCHID LEAF",
    "frame": "FRAME PICTURE PHOTO",
    "garden": "GARDEN PLANTER PARASOL WATERING PLANT POT GNOME WINDMILL",
    "glass": "GLASS GOBLET",
    "hair": "HAIR HAIRCLIP HAIRSLIDE SLIDE",
    "hook": "HOOK HANGER KNOB RACK",
    "jar": "JAR CANISTER",
    "kitchen": "CAKESTAND STAND TOWELS PAN BAKING SCALES COSY WHISK RECIPE MOULD CUTTER JELLY",
    "light": "LIGHT LAMP LAMPSHADE TORCH CHANDELIER",
    "lunch": "LUNCH SNACK PICNIC",
    "magnet": "MAGNET STICKER",
    "mirror": "MIRROR",
    "mug": "MUG CUP SAUCER TEACUP BEAKER TUMBLER",
    "necklace": "NECKLACE PENDANT CHAIN BROOCH",
    "ornament": "ORNAMENT BIRD CAT DOG RABBIT OWL HEN HEART STAR ANGEL",
    "paper": "CASE NAPKIN DOILY DOILIES TISSUE",
    "plate": "PLATE TRAY COASTER PLACEMAT PLACEMATS",
    "purse": "PURSE WALLET PASSPORT",
    "ring": "RING KEYRING KEY-RING KEY-CHAIN KEYCHAIN",
    "sign": "SIGN BLACKBOARD CHALKBOARD",
    "stationery": "PEN PENCIL ERASER RULER TAPE CRAYON CHALK STAMP",
    "teapot": "TEAPOT TEA COFFEE MILK SUGAR",
    "tidy": "STORAGE TIDY DOORSTOP DRAUGHT WARMER",
    "tile": "TILE LETTER NUMBER FONT",
    "tin": "TIN TINS",
    "toy": "TOY DOLL JIGSAW GAME PUZZLE SKIPPING DINOSAUR SOLDIER PLAYHOUSE NAUGHTS DOMINOES",
    "umbrella": "UMBRELLA RAINCOAT",
    "wall art": "ART PRINT CANVAS POSTER",
    "wrap": "WRAP RIBBON TAG GIFT",
}
CATEGORIES = tuple(sorted([*_OCCASIONS, *_NOUNS, OTHER]))

_WORD = re.compile(r"[A-Z]+(?:-[A-Z]+)*")


def _by_word(groups: dict[str, str]) -> dict[str, str]:
    return {word: category for category, words in groups.items() for word in words.split()}


_OCCASION_OF = _by_word(_OCCASIONS)
_NOUN_OF = _by_word(_NOUNS)


def category_of(description: str) -> str:
    """The occasion that any word names, else the product that the last such word names, else OTHER.

    English puts the head of a compound last and colours after it (`JUMBO BAG RED RETROSPOT`), hence the last word that is a
    known noun, in singular or plural.
    """
    words = _WORD.findall(description.upper())
    for word in words:
        if word in _OCCASION_OF:
            return _OCCASION_OF[word]
    for word in reversed(words):
        for form in (word, word.removesuffix("S"), word.removesuffix("ES")):
            if form in _NOUN_OF:
                return _NOUN_OF[form]
    return OTHER
