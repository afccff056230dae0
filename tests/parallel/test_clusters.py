"""What `auto` finds in each kind of cluster, from its environment alone."""

import sys
import types

import jax
import pytest
from jax._src.clusters import ClusterEnv, cloud_tpu_cluster, k8s_cluster

from vision_jax.errors import InputError
from vision_jax.parallel.processes import Distributed, joined

KINDS = ("SLURM_", "OMPI_", "TPU_", "MEGASCALE_", "KUBERNETES_", "JOB_COMPLETION", "JAX_COORD")


@pytest.fixture
def found(monkeypatch):
    """Join as the command line does; return coordinator, processes, number and own devices."""
    import os

    for name in [name for name in os.environ if name.startswith(KINDS)]:
        monkeypatch.delenv(name)
    detected = []

    class FoundError(RuntimeError):
        pass

    def initialize(**options):
        detected.append(
            ClusterEnv.auto_detect_unset_distributed_params(
                options["coordinator_address"],
                options["num_processes"],
                options["process_id"],
                None,
                options["cluster_detection_method"],
                5,
            )
        )
        raise FoundError("enough")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)

    def detect():
        with pytest.raises(InputError, match="enough"), joined(Distributed(auto=True)):
            pass
        return detected[-1]

    return detect


def test_slurm(found, monkeypatch):
    for name, value in {
        "SLURM_JOB_ID": "4097",
        "SLURM_STEP_NODELIST": "node[007-010],other3",
        "SLURM_NTASKS": "32",
        "SLURM_PROCID": "9",
        "SLURM_LOCALID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert found() == ("node007:61441", 32, 9, [1])


def test_open_mpi_4(found, monkeypatch):
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", f"{4096 * 5}.0;tcp://10.96.0.1,10.148.0.1:34911")
    for name, value in (("SIZE", "16"), ("RANK", "11"), ("LOCAL_RANK", "3")):
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    assert found() == ("10.96.0.1:61445", 16, 11, [3])


def test_open_mpi_5_asks_mpi4py(found, monkeypatch):
    class World:
        def Get_rank(self):  # noqa: N802
            return 3

        def Get_size(self):  # noqa: N802
            return 8

        def bcast(self, value, root):
            return "first:62000"

        def Split_type(self, *_, **__):  # noqa: N802
            return types.SimpleNamespace(Get_rank=lambda: 1)

    module = types.ModuleType("mpi4py")
    module.MPI = types.SimpleNamespace(COMM_WORLD=World(), COMM_TYPE_SHARED=0)
    module.__spec__ = types.SimpleNamespace(name="mpi4py")
    monkeypatch.setitem(sys.modules, "mpi4py", module)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
    assert found() == ("first:62000", 8, 3, [1])


def test_cloud_tpu(found, monkeypatch):
    told = {
        "agent-worker-number": "2",
        "worker-network-endpoints": "localhost,b,c,d",
        "tpu-env": "",
    }
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr("jax._src.clusters.cluster.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", lambda key: (told[key], 200))
    # All chips of a host are one process's.
    assert found() == ("localhost:8482", 4, 2, None)


def test_a_job_set_of_kubernetes(found, monkeypatch):
    of = types.SimpleNamespace
    labels = {"jobset.sigs.k8s.io/jobset-name": "train"}
    job = of(metadata=of(name="train-workers", labels=labels), spec=of(parallelism=6))
    monkeypatch.setitem(sys.modules, "kubernetes", types.ModuleType("kubernetes"))
    for name, value in {
        "is_env_present": classmethod(lambda _: True),
        "_controller": classmethod(lambda _: of(kind="Job")),
        "_job": classmethod(lambda _: job),
        "_pod": classmethod(lambda _: of(spec=of(subdomain="train"))),
    }.items():
        monkeypatch.setattr(k8s_cluster.K8sCluster, name, value)
    resolved = []
    monkeypatch.setattr(k8s_cluster.socket, "gethostbyname", resolved.append)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "4")
    assert found() == ("train-workers-0.train:55527", 6, 4, None)
    assert resolved == ["train-workers-0.train"]
