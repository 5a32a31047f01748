"""A recurrent policy over the questions of a space: π(answer | name, answers before), with a head for each name."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from search_spaces.choose import Choose, Question, T, position

Path = list[tuple[int, int, int, int]]
"""A sample as the controller reads it: for each question its first row, how many options it has, which was taken, and
the first row of these options among the common ones."""

OWN, COMMON = ("embedding", "weight", "bias"), "common"
GROWING = (*OWN, COMMON)
"""Tables with a row for each option: of each question, and of each list of options that questions have in common. They
grow as the space asks new questions."""


@dataclass(frozen=True)
class Shape:
    """Sizes and constants of a controller."""

    hidden: int
    layers: int
    initial: float
    """Weights start uniform in [-initial, initial], the heads' biases at 0: the first samples are near uniform."""
    tanh: float | None
    """Logits are squashed to ``tanh * tanh(logits)`` where given (ENAS)."""
    common: bool = False
    """Whether questions with equal options have a bias in common, beside their own."""


class Controller:
    """LSTM over embedded answers; head ``name`` gives the logits of the next answer; Adam (Kingma and Ba, 2015).

    The heads' biases alone are a factorised policy, which learns from few results, and from fewer where questions with
    equal options have a bias in common (in ENAS, arXiv 1802.03268, all nodes share a softmax); the LSTM adds what
    depends on earlier answers. Rows start from (seed, name), whatever the order in which questions come up. Questions
    with one option are left out. Adam is written out here because the tables grow, which ``torch.optim`` has no notion
    of.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        torch.set_num_threads(1)
        self._shape = shape
        self._seed = seed
        self.step = 0
        self._rows: dict[str, int] = {}
        self._common: dict[str, int] = {}
        self._lstm = nn.LSTM(shape.hidden, shape.hidden, shape.layers, batch_first=True)
        generator = self._generator("lstm")
        with torch.no_grad():
            for weight in self._lstm.parameters():
                weight.uniform_(-shape.initial, shape.initial, generator=generator)
        first = torch.empty(1, shape.hidden).uniform_(-shape.initial, shape.initial, generator=generator)
        self._tables = {"embedding": first, "weight": torch.zeros(1, shape.hidden), "bias": torch.zeros(1)}
        self._tables[COMMON] = torch.zeros(1)
        for table in self._tables.values():
            table.requires_grad_(True)
        self._moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in self._weights().items()}

    def _generator(self, name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self._seed}:{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def _weights(self) -> dict[str, Tensor]:
        return {**dict(self._lstm.named_parameters(prefix="lstm")), **self._tables}

    def _fresh(self, key: str, options: int) -> dict[str, Tensor]:
        """The first rows of a question: ``[options, hidden]`` twice and ``[options]``."""
        generator = self._generator(key)
        limit, hidden = self._shape.initial, self._shape.hidden
        embedding = torch.empty(options, hidden).uniform_(-limit, limit, generator=generator)
        weight = torch.empty(options, hidden).uniform_(-limit, limit, generator=generator)
        return {"embedding": embedding, "weight": weight, "bias": torch.zeros(options)}

    def learn_questions(self, questions: Sequence[Question]) -> None:
        """Add rows for the questions that are new."""
        for question in questions:
            key, kind = question_key(question.name, question.options), options_key(question.options)
            if len(question.options) == 1 or key in self._rows:
                continue
            self._rows[key] = self._grow(self._fresh(key, len(question.options)))
            if kind not in self._common:
                self._common[kind] = self._grow({COMMON: torch.zeros(len(question.options))})

    def _grow(self, added: dict[str, Tensor]) -> int:
        """Append rows to tables of equal length; the number of the first."""
        start = 0
        for name, rows in added.items():
            start = len(self._tables[name])
            self._tables[name] = torch.cat([self._tables[name].detach(), rows]).requires_grad_(True)
            first, second = self._moments[name]
            empty = torch.zeros_like(rows)
            self._moments[name] = (torch.cat([first, empty]), torch.cat([second, empty]))
        return start

    def sampling(self, rng: random.Random, explore: float, temperature: float = 1.0) -> Choose:
        """Chooser that draws from the policy, mixed with a share ``explore`` of uniform. Changes nothing it knows."""
        state: tuple[Tensor, Tensor] | None = None
        last = self._tables["embedding"].detach()[0]

        @torch.no_grad()
        def choose(name: str, options: Sequence[T], /) -> T:
            nonlocal state, last
            if len(options) == 1:
                return options[0]
            hidden, state = self._lstm(last[None, None, :], state)
            rows = self._rows_of(name, options)
            logits = self._squashed(rows["weight"] @ hidden[0, 0] + rows["bias"] + rows[COMMON]) / temperature
            policy = torch.softmax(logits.double(), 0).tolist()
            weights = [(1 - explore) * p + explore / len(options) for p in policy]
            index = rng.choices(range(len(options)), weights)[0]
            last = rows["embedding"][index]
            return options[index]

        return choose

    def _rows_of(self, name: str, options: Sequence[Any]) -> dict[str, Tensor]:
        """The rows of a question in every table; of a new one those that it would start with."""
        count, key = len(options), question_key(name, options)
        own, common = self._rows.get(key), self._common.get(options_key(options))
        found = self._fresh(key, count) if own is None else self._slices(OWN, own, count)
        return found | ({COMMON: torch.zeros(count)} if common is None else self._slices((COMMON,), common, count))

    def _slices(self, tables: Sequence[str], start: int, count: int) -> dict[str, Tensor]:
        return {table: self._tables[table].detach()[start : start + count] for table in tables}

    def _squashed(self, logits: Tensor) -> Tensor:
        return logits if self._shape.tanh is None else self._shape.tanh * torch.tanh(logits)

    def path(self, sample: Sequence[Question]) -> Path:
        """A sample in terms of the tables' rows. The questions must have been learned."""
        return [
            (
                self._rows[question_key(q.name, q.options)],
                len(q.options),
                position(q.options, q.answer),
                self._common[options_key(q.options)],
            )
            for q in sample
            if len(q.options) > 1
        ]

    def judge(self, paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
        """Log-probability of each sample, and the sum of the entropies of its decisions in nats: ``[len(paths)]``."""
        steps = max([len(path) for path in paths] + [1])
        widest = max([size for path in paths for _, size, *_ in path] + [1])
        padded = torch.tensor([[*path, *[(0, 1, 0, 0)] * (steps - len(path))] for path in paths])  # [samples, steps, 4]
        start, size, answer, common = padded.unbind(-1)
        asked = size > 1
        before = torch.zeros_like(start)
        before[:, 1:] = (start + answer)[:, :-1]
        hidden, _ = self._lstm(self._tables["embedding"][before])  # [samples, steps, hidden]
        choice = torch.arange(widest)
        absent = choice >= size[:, :, None]
        rows = torch.where(absent, 0, start[:, :, None] + choice)
        logits = (self._tables["weight"][rows] @ hidden[..., None])[..., 0] + self._tables["bias"][rows]
        if self._shape.common:
            logits = logits + self._tables[COMMON][torch.where(absent, 0, common[:, :, None] + choice)]
        log_policy = torch.log_softmax(self._squashed(logits).masked_fill(absent, -1e9), -1)
        chosen = log_policy.gather(-1, answer[:, :, None])[..., 0] * asked
        entropy = -(log_policy.exp() * log_policy).sum(-1) * asked
        return chosen.sum(1), entropy.sum(1)

    def descend(self, loss: Tensor, learning_rate: Callable[[str], float]) -> None:
        """One step of Adam on ``loss``; ``learning_rate(name)`` is that of a weight; "bias" and COMMON are biases."""
        weights = self._weights()
        slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        self.step += 1
        with torch.no_grad():
            for (name, weight), slope in zip(weights.items(), slopes, strict=True):
                if slope is None:
                    continue
                first, second = self._moments[name]
                first.mul_(0.9).add_(slope, alpha=0.1)
                second.mul_(0.999).addcmul_(slope, slope, value=0.001)
                scale = (second / (1 - 0.999**self.step)).sqrt_().add_(1e-8)
                weight.addcdiv_(first, scale, value=-learning_rate(name) / (1 - 0.9**self.step))

    def state(self) -> dict[str, Any]:
        """Everything as JSON-able data; tensors as base64 of safetensors."""
        tensors: dict[str, Tensor] = {}
        for name, weight in self._weights().items():
            first, second = self._moments[name]
            tensors |= {name: weight.detach().clone(), f"{name}.first": first, f"{name}.second": second}
        data = base64.b64encode(safetensors.torch.save(tensors)).decode()
        return {"step": self.step, "rows": self._rows, "common": self._common, "tensors": data}

    def load(self, state: dict[str, Any]) -> None:
        """Inverse of ``state``. Raises ValueError where it is of a controller of another shape."""
        tensors = safetensors.torch.load(base64.b64decode(state["tensors"]))
        for name, weight in self._weights().items():
            wanted = list(weight.shape)[1 if name in GROWING else 0 :]
            stored = tensors.get(name)
            if stored is None or list(stored.shape)[1 if name in GROWING else 0 :] != wanted:
                found = None if stored is None else list(stored.shape)
                raise ValueError(f"snapshot of a controller with {name} of shape {found}; allowed: rows of {wanted}")
        for name, weight in self._lstm.named_parameters(prefix="lstm"):
            weight.data.copy_(tensors[name])
        self._tables = {name: tensors[name].clone().requires_grad_(True) for name in GROWING}
        self._moments = {
            name: (tensors[f"{name}.first"].clone(), tensors[f"{name}.second"].clone()) for name in self._weights()
        }
        self._rows = {str(key): int(row) for key, row in state["rows"].items()}
        self._common = {str(kind): int(row) for kind, row in state["common"].items()}
        self.step = int(state["step"])


def question_key(name: str, options: Sequence[Any]) -> str:
    """A question is known by its name and its options."""
    return json.dumps([name, list(options)])


def options_key(options: Sequence[Any]) -> str:
    """Equal for equal options, whatever the question."""
    return json.dumps(list(options))
