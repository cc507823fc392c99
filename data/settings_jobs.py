"""Settings of uploaded files and of fine-tuning jobs."""

from typing import Literal

from pydantic import Field

from data.frozen import Frozen


class FileSettings(Frozen):
    """How much may be uploaded by /v1/files."""

    max_mib: int = Field(512, ge=1, description="of one file")
    total_mib: int = Field(10_240, ge=1, description="of all files of one owner")


class JobSettings(Frozen):
    """Fine-tuning jobs of /v1/fine_tuning/jobs."""

    role: Literal["user", "rater", "admin"] = Field(
        "user", description="who may upload files and start jobs: this role or a higher one"
    )
    waiting: int = Field(20, ge=1, description="unfinished jobs that one owner may have")
    restarts: int = Field(3, ge=0, description="a training that is killed is taken up again so many times")
