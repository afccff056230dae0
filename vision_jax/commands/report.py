"""Write a run's report."""

from vision_jax.commands.arguments import Workdir


def report(workdir: Workdir) -> None:
    """Write report.html: curves, figures, images that were made, and searches to look at.

    Example: vision-jax report runs/digits

    Args:
        workdir: Folder of the run.
    """
    from vision_jax.reports.run import write_report

    print(f"report -> {write_report(workdir)}")
