"""The tags of published networks, in the order of their outputs: one order per data set."""

from samplecnn.data.lastfm import PUBLISHED_TAGS

# MagnaTagATune's 50 most frequent tags as the paper's authors have them, the rarest first. The list of their
# repository (data/preprocessing/annotation_processing.py), which also settles the three pairs of equally
# frequent tags.
_AUTHORS = """
    choral, female voice, metal, country, weird, no voice, cello, harp, beats, female vocal,
    male voice, dance, new age, voice, choir, classic, man, solo, sitar, soft,
    pop, no vocal, male vocal, woman, flute, quiet, loud, harpsichord, no vocals, vocals,
    singing, male, opera, indian, female, synth, vocal, violin, beat, ambient,
    piano, fast, rock, electronic, drums, strings, techno, slow, classical, guitar
"""
AUTHORS_TAGS = tuple(name.strip() for name in _AUTHORS.split(","))

# The most frequent first: Won's and Pons' networks.
MTAT = AUTHORS_TAGS[::-1]

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

TAGS = {"mtat": MTAT, "msd": PUBLISHED_TAGS, "jamendo": JAMENDO}
