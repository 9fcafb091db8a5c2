"""What tells who made a run, and where, replaced by placeholders.

Two kinds of rules work together. Identities that are known (the names of host and user, folders,
the git author, remotes: of this machine, and of every record) are replaced wherever they stand as a
word. Shapes that identify (absolute paths, e-mail addresses, URLs) are replaced whether known or
not. The same thing always gets the same placeholder, which is legal in a file name, in JSON, in
HTML and in the source of a program: `anon_user_1`.

A name that is a short or a common word (`root`, `ana`, or a user called `moe`) is replaced only
where it can mean nothing else: in a path, in an address, and as the value of a field like `user`.
"""

from research_eval.anonymity.anonymizer import Anonymizer, Removed
from research_eval.anonymity.identities import (
    Identity,
    identities_here,
    identities_in,
    identities_of,
)

__all__ = [
    "Anonymizer",
    "Identity",
    "Removed",
    "identities_here",
    "identities_in",
    "identities_of",
]
