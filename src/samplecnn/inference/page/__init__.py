"""A local page that plays a song and shows what models hear in it."""
