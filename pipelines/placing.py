"""Where and with what the steps of a pipeline run in a cluster: image, limits, account of the object storage, scratch space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from components.artifacts.image import STEP_IMAGE
from components.errors import Fault, FaultyInputError

CREDENTIAL_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Keys that a secret holds whose values become environment variables of the same names."""
CREDENTIALS_FILE = "credentials"
"""Key that a secret holds which is mounted: a file as AWS's own tools write it."""
_SECRET_FOLDER = "/var/run/rankgate/storage"  # noqa: S105  where it is mounted, not what is in it
_SCRATCH_FOLDER = "/var/run/rankgate/scratch"


@dataclass(frozen=True, slots=True)
class StepOptions:
    """What is set of every step; empty strings leave the cluster's defaults.

    Nothing here is a secret: a secret is named, and the cluster puts its values into the steps that read object storage.
    """

    image: str = STEP_IMAGE
    cpu: str = ""
    """Request and limit of each step, such as `2`."""
    memory: str = ""
    """Request and limit of each step, such as `8Gi`."""
    secret: str = ""
    """Kubernetes Secret with the account of the object storage."""
    account_as: Literal["env", "volume"] = "env"
    """Whether its keys become variables, or the file `credentials` in it is mounted."""
    endpoint: str = ""
    """Address of an object storage that is not AWS's, such as http://seaweedfs.storage:8333."""
    region: str = ""
    scratch: str = ""
    """Size of a volume of its own for each step's temporary files, such as `50Gi`; DuckDB spills there."""
    scratch_class: str = ""
    """Storage class of that volume."""

    def __post_init__(self) -> None:
        faults = []
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            faults.append(Fault("endpoint", repr(self.endpoint), "an address with http:// or https://"))
        if self.endpoint and "@" in self.endpoint:
            faults.append(
                Fault("endpoint", "an account in the address", "one without", "Put the account into a secret.")
            )
        if self.scratch_class and not self.scratch:
            faults.append(Fault("scratch class", self.scratch_class, "the size of the scratch space beside it"))
        if faults:
            raise FaultyInputError("steps", faults)


LAPTOP = StepOptions()
"""Nothing set: the cluster's defaults, or this machine."""


def place_step(task: Any, options: StepOptions, *, reads_storage: bool = False) -> Any:
    """Set a task up by the options; returns it.

    Args:
        task: kfp's task.
        options: What to set.
        reads_storage: Whether the step opens s3:// places itself, and needs the account for that. What kfp's own launcher
            fetches and keeps needs none: it has the pipeline root's.
    """
    task.set_container_image(options.image)
    if options.cpu:
        task.set_cpu_request(options.cpu).set_cpu_limit(options.cpu)
    if options.memory:
        task.set_memory_request(options.memory).set_memory_limit(options.memory)
    if options.scratch:
        _give_scratch(task, options)
    if reads_storage:
        _give_storage(task, options)
    return task


def _give_scratch(task: Any, options: StepOptions) -> None:
    from kfp import kubernetes

    kubernetes.add_ephemeral_volume(
        task,
        volume_name="scratch",
        mount_path=_SCRATCH_FOLDER,
        access_modes=["ReadWriteOnce"],
        size=options.scratch,
        storage_class_name=options.scratch_class or None,
    )
    task.set_env_variable("TMPDIR", _SCRATCH_FOLDER)


def _give_storage(task: Any, options: StepOptions) -> None:
    from kfp import kubernetes

    for name, value in (("AWS_ENDPOINT_URL", options.endpoint), ("AWS_REGION", options.region)):
        if value:
            task.set_env_variable(name, value)
    if options.secret and options.account_as == "env":
        kubernetes.use_secret_as_env(task, options.secret, {key: key for key in CREDENTIAL_KEYS})
    elif options.secret:
        kubernetes.use_secret_as_volume(task, options.secret, mount_path=_SECRET_FOLDER)
        task.set_env_variable("AWS_SHARED_CREDENTIALS_FILE", f"{_SECRET_FOLDER}/{CREDENTIALS_FILE}")
