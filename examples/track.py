"""Record a script that knows nothing of experiments: a line is fitted to noisy points.

    python examples/track.py --lr 0.1

Then look at it: `research-eval runs list`, `research-eval runs show last`.
"""

import argparse
import random

import research_eval


def main() -> None:
    """Fit, and record what happens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
    parser.add_argument("--steps", type=int, default=200, help="number of updates")
    parser.add_argument("--seed", type=int, default=0, help="of the data and their order")
    arguments = parser.parse_args()

    rng = random.Random(arguments.seed)
    points = [(x / 50, 2 * x / 50 + 1 + rng.gauss(0, 0.1)) for x in range(50)]
    slope, offset = 0.0, 0.0
    with research_eval.track(
        "line", project="examples", config=arguments, seed=arguments.seed
    ) as run:
        for step in range(arguments.steps):
            x, y = rng.choice(points)
            error = slope * x + offset - y
            slope -= arguments.lr * error * x
            offset -= arguments.lr * error
            run.log({"train/loss": error**2, "slope": slope, "offset": offset}, step=step)
        loss = sum((slope * x + offset - y) ** 2 for x, y in points) / len(points)
        run.summary({"final/loss": loss})
    print(f"y = {slope:.2f} x + {offset:.2f}, loss {loss:.4f}; run {run.id}")


if __name__ == "__main__":
    main()
