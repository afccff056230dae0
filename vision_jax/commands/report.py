"""Write a run's report."""

from vision_jax.commands.arguments import DataName, Workdir


def report(workdir: Workdir, data: DataName = None) -> None:
    """Write report.html into a run's workdir: metrics, learning curves, images and searches.

    Example: vision-jax report runs/digits

    Args:
        workdir: Run to report on.
        data: Where the run's data is now, a folder or a data set's name. Default: where it was in
            training.
    """
    from vision_jax.evaluation.data import EvaluationData
    from vision_jax.reports.run import write_report
    from vision_jax.run.run import load_run

    print(f"report -> {write_report(EvaluationData.of(load_run(workdir, data=data)))}")
