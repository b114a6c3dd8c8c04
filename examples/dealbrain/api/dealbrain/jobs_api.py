"""Taking jobs and counting those that are done."""

from typing import Annotated, Protocol

from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Request
from kombu.exceptions import OperationalError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from dealbrain.jobs import publish
from dealbrain.models import Job, JobCompletion


class NewJob(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(min_length=1, max_length=100)


class Queue(Protocol):
    async def put(self, key: str) -> None:
        """Returns when the queue has the job. Raises OperationalError."""
        ...


class JobStore(Protocol):
    async def accept(self, key: str) -> int:
        """The job's id; the same one for a repeated key. Committed on return."""
        ...

    async def completed(self, prefix: str) -> int: ...


class CeleryQueue:
    async def put(self, key: str) -> None:
        await to_thread.run_sync(publish, key)


class SqlJobs:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def accept(self, key: str) -> int:
        insertion = (
            insert(Job)
            .values(key=key)
            .on_conflict_do_nothing(index_elements=[Job.key])
            .returning(Job.id)
        )
        async with self._engine.begin() as connection:
            job_id = (await connection.execute(insertion)).scalar_one_or_none()
            if job_id is None:
                known = select(Job.id).where(Job.key == key)
                job_id = (await connection.execute(known)).scalar_one()
        return job_id

    async def completed(self, prefix: str) -> int:
        query = select(func.count()).select_from(JobCompletion)
        if prefix:
            query = query.where(JobCompletion.key.startswith(prefix, autoescape=True))
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).scalar_one()


def job_store(request: Request) -> JobStore:
    return SqlJobs(request.app.state.engine)


def job_queue() -> Queue:
    return CeleryQueue()


router = APIRouter(prefix="/api/jobs")


@router.post("", status_code=202)
async def enqueue(
    new: NewJob,
    jobs: Annotated[JobStore, Depends(job_store)],
    queue: Annotated[Queue, Depends(job_queue)],
) -> dict[str, int]:
    """Accepted first in the database, then in the queue. 503 when the queue did not
    take it: the same key may be sent again."""
    job_id = await jobs.accept(new.key)
    try:
        await queue.put(new.key)
    except OperationalError as error:
        raise HTTPException(503, "the queue does not answer; try again") from error
    return {"id": job_id}


@router.get("/count")
async def count(
    jobs: Annotated[JobStore, Depends(job_store)], prefix: str = ""
) -> dict[str, int]:
    """How many jobs are done, or how many with keys that begin with `prefix`."""
    return {"count": await jobs.completed(prefix)}
