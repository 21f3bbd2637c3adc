"""Makes a small draft model out of a large one, for speculative decoding.

A draft is accepted where it says what the target would have said, so the student
learns on what the teacher writes and nothing else: prompts of our own making
(`prompts`), answered by the teacher through the gateway (`generate`). The teacher
then reads its answers once more and its most likely tokens are stored with the
text (`label`); from there on a training step costs the student alone. The student
is some of the teacher's own layers (`ablate` says which) with the teacher's
embedding, trained towards the stored distributions (`train`). `evaluate` says how
many drafted tokens the teacher would have taken on prompts it was not trained on,
and what one costs; `export` writes the GGUF that llama.cpp reads, `card` its model
card. `pipeline` runs all of that; every stage goes on where it was stopped, and
the same seed gives the same prompts, batches and weights.

`pad` is a tool apart: it makes a model deeper without changing what it says.
"""
