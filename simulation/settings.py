"""Settings of a simulation: what is compared, and on what machinery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import PlainValidator

from fedmri.errors import require
from fedmri.round import Strategy
from fedmri.simulation.protocol import PROTOCOLS, StudyProtocol
from fedmri.strategies.registry import STRATEGIES

Arm = Literal["federated", "local", "pooled", "balanced", "ensemble", "personalised", "votes"]


@dataclass(frozen=True)
class SimulationConfig:
    """What is compared, and on what machinery.

    Nothing here changes the bits of a result, but for an update that ``max_leakage`` holds back,
    and for ``slow`` and ``replay``.

    Attributes:
        arms: ``federated``; ``local``, each site alone; ``pooled``, all data in one place.
            ``balanced`` is the pool with each site as often. ``ensemble`` is the mean answer of all
            local models. ``personalised`` trains the federation's model on at each site. ``votes``
            fits a support vector machine, a forest and neighbours to that model's features at each
            site. They hold patients' features, so they never leave the site. The linear baseline
            and the one that looks at no image always stand beside them.
        strategies: Strategies that are compared under the plan's budget, each an arm of its own;
            empty trains the plan's strategy alone. ``loso`` always uses the plan's.
        protocol: ``sites`` tests every model at every site. ``loso`` also leaves each site out in
            turn. It trains on the others and tests on all patients of the site. ``folds`` tests
            each patient once. ``learning_curve`` trains on fewer patients or sites.
            ``domain_shift`` tests on patients unlike those of training. Settings of a protocol
            stand below it, as in ``simulation.protocol.n_folds=5``. An installed protocol can be
            named too.
        n_tuning_rounds: Rounds that ``personalised`` goes on for at a site.
        vote: How the classifiers of ``votes`` become one class. ``soft`` averages their shares of
            classes; ``hard`` counts the classes that they call.
        is_smote: Whether ``votes`` learns from made examples of rare classes too. Each lies between
            the features of two training examples of the site (SMOTE).
        n_calibration: Patients of a left-out site that ``personalised`` learns from there. They are
            not tested.
        n_seeds: Repetitions with other training seeds on the same split.
        external: Folder of a data set that takes no part and is tested on.
        external_labels: What answers of the external data set are called here, each as
            ``theirs=ours``. Of label maps, theirs is a value, and ours a class or ``background``:
            ``4=tumour``, ``*=background``. A map of another name is ``theirs=ours``, too.
        is_rest_external: Whether sites beyond the N largest are tested on rather than left out.
        workers: Processes that train sites; 1 trains in this process, 0 takes all cores.
        backend: ``local`` processes, or a ``ray`` cluster (needs ``pip install 'fedmri[ray]'``).
        cache: Folder of prepared scans; ``""`` is ``~/.cache/fedmri``.
        runs: Folder that run folders are made in.
        store: Folder in which finished trainings and preparations are kept. Later runs take from
            it what they share with earlier ones. ``""`` keeps none.
        trackers: Where else the records of a run are written, beside TensorBoard: ``mlflow`` and
            ``wandb``, offline (needs ``pip install 'fedmri[track]'``).
        weights: File of weights that every arm starts from; ``""`` starts from seeded weights.
            The plan gets its hash as ``start.sha256``.
        n_pictures: Example pictures by site in the report.
        max_leakage: Highest score of the leakage meter, 0 to 1, with which an update may leave. 0
            does not measure; 1 measures and lets every update leave. Scores stay in the sites'
            folders.
        leakage_every: Rounds from one measurement to the next.
        slow: Sites that take several rounds for an answer, each as ``site:rounds``. The plan's
            ``rounds.late`` says what becomes of their updates.
        replay: File ``taken.jsonl`` of another run. Each round takes the updates that it took
            there. ``""`` replays nothing.
    """

    arms: tuple[Arm, ...] = ("federated", "local", "pooled")
    strategies: tuple[Annotated[Strategy, PlainValidator(STRATEGIES.made)], ...] = ()
    protocol: Annotated[StudyProtocol | str, PlainValidator(PROTOCOLS.made)] = "sites"
    n_tuning_rounds: int = 1
    vote: Literal["soft", "hard"] = "soft"
    is_smote: bool = False
    n_calibration: int = 5
    n_seeds: int = 1
    external: str = ""
    external_labels: tuple[str, ...] = ()
    is_rest_external: bool = False
    workers: int = 0
    backend: Literal["local", "ray"] = "local"
    cache: str = ""
    runs: str = "runs"
    store: str = ""
    trackers: tuple[Literal["mlflow", "wandb"], ...] = ()
    weights: str = ""
    n_pictures: int = 2
    max_leakage: float = 0.0
    leakage_every: int = 1
    slow: tuple[str, ...] = ()
    replay: str = ""

    def __post_init__(self) -> None:
        require(bool(self.arms), "simulation.arms", self.arms, "one or more arms")
        names = [STRATEGIES.name_of(strategy) for strategy in self.strategies]
        is_unique = len(set(names)) == len(names)
        require(is_unique, "simulation.strategies", ", ".join(names), "each strategy once")
        require(self.n_seeds >= 1, "simulation.n_seeds", self.n_seeds, "1 or more")
        require(
            self.n_tuning_rounds >= 1,
            "simulation.n_tuning_rounds",
            self.n_tuning_rounds,
            "1 or more",
        )
        require(
            self.n_calibration >= 1, "simulation.n_calibration", self.n_calibration, "1 or more"
        )
        labels = self.external_labels
        is_said = all(label.partition("=")[2] for label in labels)
        require(is_said, "simulation.external_labels", labels, "theirs=ours each")
        needed = {"ensemble": "local", "personalised": "federated", "votes": "federated"}
        lacking = [n for arm, n in needed.items() if arm in self.arms and n not in self.arms]
        require(not lacking, "simulation.arms", self.arms, f"{' and '.join(lacking)} among them")
        require(self.workers >= 0, "simulation.workers", self.workers, "0 or more")
        leakage, every = self.max_leakage, self.leakage_every
        require(0 <= leakage <= 1, "simulation.max_leakage", leakage, "0 to 1")
        require(every >= 1, "simulation.leakage_every", every, "1 or more")
        require(self.n_pictures >= 0, "simulation.n_pictures", self.n_pictures, "0 or more")
        said = [text.rpartition(":") for text in self.slow]
        is_said = all(site and n.isdecimal() and int(n) >= 2 for site, _, n in said)
        require(is_said, "simulation.slow", self.slow, "site:rounds each, with 2 rounds or more")

    @property
    def slow_sites(self) -> dict[str, int]:
        """Rounds that slow sites take for an answer."""
        return {site: int(n) for site, _, n in (text.rpartition(":") for text in self.slow)}
