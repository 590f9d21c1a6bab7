"""The tags of published networks, in the order of their outputs: one order per data set."""

from samplecnn.inference.keras_import import AUTHORS_TAGS

# MagnaTagATune, the most frequent first: Won's and Pons' networks. (The paper's authors have it reversed.)
MTAT = AUTHORS_TAGS[::-1]

# The Million Song Dataset, the most frequent first: the list of Choi et al. (2016).
MSD = tuple(
    """
    rock, pop, alternative, indie, electronic, female vocalists, dance, 00s, alternative rock, jazz,
    beautiful, metal, chillout, male vocalists, classic rock, soul, indie rock, Mellow, electronica, 80s,
    folk, 90s, chill, instrumental, punk, oldies, blues, hard rock, ambient, acoustic,
    experimental, female vocalist, guitar, Hip-Hop, 70s, party, country, easy listening, sexy, catchy,
    funk, electro, heavy metal, Progressive rock, 60s, rnb, indie pop, sad, House, happy
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)

# MTG-Jamendo's 50 most frequent, in the alphabet's order: Won's code lists them in another, but hands the
# list to scikit-learn's LabelBinarizer, which sorts it.
_JAMENDO = {
    "genre": """alternative ambient atmospheric chillout classical dance downtempo easylistening electronic
        experimental folk funk hiphop house indie instrumentalpop jazz lounge metal newage orchestral pop
        popfolk poprock reggae rock soundtrack techno trance triphop world""",
    "instrument": """acousticguitar bass computer drummachine drums electricguitar electricpiano guitar
        keyboard piano strings synthesizer violin voice""",
    "mood/theme": "emotional energetic film happy relaxing",
}
JAMENDO = tuple(f"{kind}---{tag}" for kind, tags in _JAMENDO.items() for tag in tags.split())

TAGS = {"mtat": MTAT, "msd": MSD, "jamendo": JAMENDO}
