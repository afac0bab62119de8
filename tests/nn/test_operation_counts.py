"""How many operations a Stage 2 layer starts, beside a vanilla convolution with its norm and activation."""

import pytest
from benchmarks import operation_counts as counts

AT_MOST = {
    "folded": (2.25, 2.34),
    "evaluation": (4.1, 5.4),
    "training": (4.1, 3.1),
}  # all, those that compute


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("run", ["folded", "evaluation", "training"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.75, 0.25)])
def test_operations_of_stage_2_beside_a_vanilla_layer(kernel, run, alpha, beta):
    vanilla = counts.count(*counts.vanilla(kernel, run), run)
    stage2 = counts.count(*counts.stage2(kernel, alpha, beta, run), run)
    assert stage2["all"] <= AT_MOST[run][0] * vanilla["all"]
    assert stage2["compute"] <= AT_MOST[run][1] * vanilla["compute"]
