"""ComBat as a layer on embeddings: the pooled fit, the site's own affine, who stays out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fedmri.errors import HarmonizeError
from fedmri.harmonize.combat.combat_site import apply, fit_site
from fedmri.harmonize.combat.model import ComBat
from fedmri.harmonize.combat.site_table import SiteTable
from fedmri.harmonize.embeddings.embedding_combat import EmbeddingComBat, layer_before, site_affine
from fedmri.harmonize.embeddings.embedding_stage import Embeddings
from fedmri.harmonize.sums import run
from fedmri.round import Weights

STAGE = EmbeddingComBat(6)


def sites() -> list[Embeddings]:
    """Return three sites whose embeddings are shifted and stretched; feature 5 is never on."""
    draws = torch.Generator().manual_seed(0)
    made = []
    for k, n in enumerate((12, 30, 21)):
        values = torch.randn(n, 6, generator=draws, dtype=torch.float64)
        values = (1 + k) * values + 3 * k
        values[:, 5] = 0
        made.append(Embeddings(f"site{k}", values, torch.zeros(n)))
    return made


def fitted(held: list[Embeddings]) -> Weights:
    """Return the shared half as a site receives it."""
    return {name: torch.from_numpy(values) for name, values in run(STAGE, held).items()}


def test_the_layer_is_combat_on_all_embeddings_in_one_place() -> None:
    """Fit over the sites by sums, apply the affine: pooled ComBat's values within 1e-10."""
    held = sites()
    pooled = ComBat(6)
    tables = [SiteTable(e.site, e.values.numpy(), np.zeros((len(e.values), 0))) for e in held]
    parameters, received = run(pooled, tables), fitted(held[::-1])
    for own, table in zip(held, tables, strict=True):
        wanted = apply(parameters, fit_site(pooled, parameters, table), table)
        found = site_affine(STAGE, received, own)(own.values).numpy()
        assert np.abs(found - wanted).max() < 1e-10
        assert np.array_equal(found[:, 5], own.values[:, 5].numpy())


def test_afterwards_sites_look_alike() -> None:
    """Means that were 6 apart and spreads that were 3-fold are near each other."""
    held = sites()
    received = fitted(held)
    after = [site_affine(STAGE, received, own)(own.values)[:, :5] for own in held]
    means = torch.stack([values.mean(dim=0) for values in after])
    spreads = torch.stack([values.std(dim=0) for values in after])
    assert float((means.max(dim=0)[0] - means.min(dim=0)[0]).max()) < 0.6
    assert float((spreads.max(dim=0)[0] / spreads.min(dim=0)[0]).max()) < 1.5


def test_a_site_that_was_not_there_is_brought_in_line_by_its_own_images() -> None:
    """The shared half stays as it is; nobody else needs to do anything."""
    held = sites()
    received = fitted(held[:2])
    late = site_affine(STAGE, received, held[2])(held[2].values)[:, :5]
    assert float((late.mean(dim=0) - received["alpha"][:5]).abs().max()) < 1.0
    assert float((held[2].values[:, :5].mean(dim=0) - received["alpha"][:5]).abs().min()) > 2.0


def test_a_site_with_few_examples_stays_out_and_as_it_is() -> None:
    """Its sums would show single patients; its own estimate would be noise."""
    few = replace(sites()[0], values=sites()[0].values[:9])
    with pytest.raises(HarmonizeError, match=r"site site0.*9 rows.*\[H02\]"):
        STAGE.site_sums(0, few, {})
    assert torch.equal(site_affine(STAGE, fitted(sites()), few)(few.values), few.values)


def test_other_parameters_are_refused() -> None:
    """As from a server of another version."""
    with pytest.raises(HarmonizeError, match=r"\[H21\]"):
        site_affine(STAGE, {"alpha": torch.zeros(6)}, sites()[0])


def test_the_layer_lies_before_the_head_and_goes_again() -> None:
    """Outputs are the head's of harmonized embeddings, with a gradient to the encoder."""
    torch.manual_seed(0)
    encoder, head = nn.Linear(4, 6, dtype=torch.float64), nn.Linear(6, 2, dtype=torch.float64)
    network = nn.Sequential(encoder, head)
    own, image = sites()[1], torch.randn(3, 4, dtype=torch.float64)
    affine = site_affine(STAGE, fitted(sites()), own)
    plain = network(image)
    with layer_before(network, "1", affine):
        changed = network(image)
    assert torch.allclose(changed, head(affine(encoder(image))))
    assert not torch.allclose(changed, plain)
    assert torch.equal(network(image), plain)
    slopes = torch.autograd.grad(changed.sum(), encoder.weight)
    assert bool(slopes[0].any())
