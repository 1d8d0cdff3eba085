"""Names on the wire and the policies they stand for: every worker (solo), the built-in policies, and the owner's own.

Built in, for whatever pool there is:

| name | stands for |
|---|---|
| `route` | the owner's rules, then what a table has learned per kind of task, then the default or the cheapest worker |
| `cascade` | workers from cheap to dear, their own confidence between: the useful ones by the table, else up to three |
| `fuse` | up to four workers side by side (by the table, who together know most) and a vote weighed by confidence |
| `fallback` | every worker in the order of the configuration, the next one when one fails |
| `stretto` | the rules, then evidence: the first `sequential`, else what was learned of the pool; else a prior and checks |
| `trinity` | turns of thinker, worker and verifier, led by the coordinator that was learned about this pool (only then) |
| `conductor` | a workflow that the learned planner writes; without one the dearest worker plans, over at most four others |
| `stretto-ultra` | the conductor, checked, and where its answer does not pass a panel beside it |
| `stretto/fusion`, `openrouter/fusion`, ... | a panel, an analyst and a writer, in OpenRouter Fusion's forms (`gateway.fusion`) |

Where workers do not tell how sure they are, `cascade` is the cheapest, checked by the dearest, and then the dearest; and in
`fuse` the dearest picks. Of a larger pool, `cascade` and `fuse` leave out workers without a known price, or with more than ten
times the median one.

A `[policy.NAME]` of the same name replaces a built-in one. Other packages offer policy types as entry points of the group
`stretto.policies`: a callable that takes the options of the table and a function from names to policies.
"""

from stretto.catalog.learned import Learned, equipped, learned
from stretto.catalog.names import BUILT_IN, ENTRY_POINTS, Build, Catalog

__all__ = ["BUILT_IN", "ENTRY_POINTS", "Build", "Catalog", "Learned", "equipped", "learned"]
