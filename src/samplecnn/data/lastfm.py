"""The published tags of the Million Song Dataset, the most frequent first: what Last.fm's listeners say.

Choi, Fazekas and Sandler 2016: the 50 most frequent, less those that say nothing about the sound (favorites,
Love, ...). https://github.com/keunwoochoi/MSD_split_for_tagging
"""

_PUBLISHED = (
    "rock,pop,alternative,indie,electronic,female vocalists,dance,00s,alternative rock,jazz,beautiful,metal,"
    "chillout,male vocalists,classic rock,soul,indie rock,Mellow,electronica,80s,folk,90s,chill,instrumental,"
    "punk,oldies,blues,hard rock,ambient,acoustic,experimental,female vocalist,guitar,Hip-Hop,70s,party,"
    "country,easy listening,sexy,catchy,funk,electro,heavy metal,Progressive rock,60s,rnb,indie pop,sad,"
    "House,happy"
)
PUBLISHED_TAGS = tuple(_PUBLISHED.split(","))
