"""How often tags occur together: Table 3 of Kim, Lee and Nam (2018), and which tags are worth comparing."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from samplecnn.errors import UserError

PAPER_TAGS = ("classical", "metal", "dance")
# Table 3. The clean split has 699, 165 and 153 such test clips: the authors' script drew its clips from a
# queue that may give some twice.
PAPER_TOGETHER = ((704, 0, 1), (0, 166, 0), (1, 0, 153))
MAX_TAGS = 7  # lines in one panel that can be told apart
LISTED = 5  # tags in an error message


@dataclass(frozen=True, eq=False)
class TagCounts:
    """How many clips of the test part have each tag, and each two tags together."""

    tags: tuple[str, ...]  # those with clips, in the order of the network's outputs
    unused: tuple[str, ...]  # those without
    together: NDArray[np.int64]  # (tags, tags): clips with both tags; on the diagonal, clips with the tag

    @classmethod
    def of(cls, tags: Sequence[str], labels: NDArray[np.uint8]) -> "TagCounts":
        """Count the labels `(clips, tags)` of a part; UserError if there are none."""
        used = np.flatnonzero(labels.any(axis=0))
        if not used.size:
            raise UserError(f"no clip of the test split has any of the {len(tags)} tags")
        with_clips = tuple(tags[index] for index in used.tolist())
        positive = labels[:, used].astype(np.int64)
        return cls(with_clips, tuple(tag for tag in tags if tag not in with_clips), positive.T @ positive)

    @property
    def clips(self) -> NDArray[np.int64]:
        """Clips with each tag: `(tags,)`."""
        return self.together.diagonal()

    def rows(self, tags: Sequence[str]) -> list[int]:
        """Return the places of the given tags."""
        return [self.tags.index(tag) for tag in tags]

    def table(self, tags: Sequence[str]) -> NDArray[np.int64]:
        """Return how often the given tags occur together, as in Table 3: `(chosen, chosen)`."""
        return self.together[np.ix_(self.rows(tags), self.rows(tags))]

    def choose(self, asked: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the tags to compare: those asked for, else the paper's, else three that rarely meet.

        Raises UserError for an unknown tag, one without clips, none at all, too many, and one named twice.
        """
        if asked is None:
            return PAPER_TAGS if set(PAPER_TAGS) <= set(self.tags) else self._rarely_together(len(PAPER_TAGS))
        for tag in asked:
            if tag in self.unused:
                raise UserError(f"no clip of the test split has the tag {tag!r}: it cannot be compared")
            if tag not in self.tags:
                close = difflib.get_close_matches(tag, self.tags, n=LISTED)
                raise UserError(
                    f"no tag {tag!r}: {'the nearest' if close else 'some'} of the {len(self.tags)} tags are "
                    f"{', '.join(close or self.tags[:LISTED])}"
                )
        if len(set(asked)) != len(asked) or not 1 <= len(asked) <= MAX_TAGS:
            raise UserError(f"tags {', '.join(asked)}: allowed are 1 to {MAX_TAGS} different ones")
        return tuple(asked)

    def _rarely_together(self, number: int) -> tuple[str, ...]:
        """Return tags of the more frequent half: the most frequent, then those that meet the chosen least.

        How often a tag meets the chosen is a share of its own clips. Among equals the most frequent wins.
        """
        frequent = np.argsort(-self.clips, kind="stable")
        rest = frequent[: max(number, len(frequent) // 2)].tolist()
        chosen = [rest.pop(0)]
        while rest and len(chosen) < number:
            shared = self.together[np.ix_(rest, chosen)].sum(axis=1) / self.clips[rest]
            chosen.append(rest.pop(int(shared.argmin())))
        return tuple(self.tags[index] for index in chosen)
