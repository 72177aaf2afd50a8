"""Routes, sign-in and refusals of the Backup-chan face."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.routing import Match, Route

from holdfast import __version__
from holdfast.core.access import Verb
from holdfast.core.errors import (
    HoldfastError,
    InvalidError,
    NoRepositoryError,
    NotSignedInError,
    ObjectNotFoundError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
    WrongCredentialsError,
)
from holdfast.core.records import BackupState, Face, Shape
from holdfast.core.secret import Secret
from holdfast.web import failures, receiving, sending, threads
from holdfast.web.dialects.backupchan import parsing, rendering, uploading
from holdfast.web.dialects.backupchan.rendering import answer
from holdfast.web.security import client_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.core.access import Principal
    from holdfast.core.records import Backup, Target
    from holdfast.service.server import Service

PATHS = (
    "/api/target",
    "/api/backup",
    "/api/recycle_bin",
    "/api/jobs",
    "/api/seq",
    "/api/stats",
    "/api/log",
)
_ARCHIVE = "tar.xz"
_DELAYED = ("upload", *rendering.JOBS.values())


def app(service: Service) -> ASGIApp:
    face = Backupchan(service)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await face.answer(Request(scope, receive))
            await response(scope, receive, send)

    return call


class Backupchan:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._idle = service.ground.configuration.limits.idle
        self._routes = [
            Route(path, endpoint, methods=[method])
            for method, path, endpoint in (
                ("GET", "/api/target", self.list_targets),
                ("POST", "/api/target", self.create_target),
                ("GET", "/api/target/search", self.search_targets),
                ("GET", "/api/target/{id}", self.get_target),
                ("PATCH", "/api/target/{id}", self.edit_target),
                ("DELETE", "/api/target/{id}", self.delete_target),
                ("DELETE", "/api/target/{id}/all", self.delete_all),
                ("DELETE", "/api/target/{id}/recycled", self.delete_recycled),
                ("POST", "/api/target/{id}/upload", self.upload),
                ("GET", "/api/backup/{id}/download", self.download),
                ("DELETE", "/api/backup/{id}", self.delete_backup),
                ("PATCH", "/api/backup/{id}", self.recycle_backup),
                ("GET", "/api/recycle_bin", self.list_bin),
                ("DELETE", "/api/recycle_bin", self.clear_bin),
                ("GET", "/api/jobs", self.list_jobs),
                ("GET", "/api/jobs/force_run/{name}", self.force_run),
                ("GET", "/api/log", self.log),
                ("GET", "/api/stats", self.stats),
                ("POST", "/api/seq/{id}/begin", self.seq_begin),
                ("GET", "/api/seq/{id}", self.seq_check),
                ("POST", "/api/seq/{id}/upload", self.seq_upload),
                ("POST", "/api/seq/{id}/finish", self.seq_finish),
                ("POST", "/api/seq/{id}/terminate", self.seq_terminate),
            )
        ]

    async def answer(self, request: Request) -> Response:
        try:
            who = await threads.run(self._sign_in, request)
            return await self._dispatch(request, who)
        except Exception as raised:  # noqa: BLE001  told, or logged and told
            error = failures.known(raised, request.url.path)
            if not isinstance(error, receiving.BodySlowError):
                await receiving.drain(request, idle=self._idle)
            return _refusal(error)

    async def _dispatch(self, request: Request, who: Principal) -> Response:
        allowed: set[str] = set()
        for route in self._routes:
            match, child = route.matches(request.scope)
            if match is Match.FULL:
                request.scope.update(child)
                endpoint: Callable[[Request, Principal], Awaitable[Response]] = route.endpoint
                return await endpoint(request, who)
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        await receiving.drain(request, idle=self._idle)
        if allowed:
            headers = {"Allow": ", ".join(sorted(allowed))}
            return answer({"message": "That method is not for this address"}, 405, headers)
        return answer({"message": "There is nothing at this address"}, 404)

    def _sign_in(self, request: Request) -> Principal:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key.strip():
            raise NotSignedInError("Unauthorized")
        trusted = self._service.ground.configuration.listen.proxies
        return self._service.signing_in.bearer(
            Secret(key.strip()), client_address(request.scope, trusted)
        )

    def _target(self, request: Request, who: Principal) -> Target:
        return self._service.targets.get(who, _id(request), face=Face.BACKUPCHAN)

    def _backup(self, request: Request, who: Principal) -> Backup:
        return self._service.backups.get(who, _id(request), face=Face.BACKUPCHAN)

    # --- targets ----------------------------------------------------------------------------------

    async def list_targets(self, request: Request, who: Principal) -> Response:
        size = self._service.ground.configuration.backupchan.page_size
        page = parsing.number(request.query_params, "page", 1, least=1)
        found = await threads.run(
            self._service.targets.list,
            who,
            face=Face.BACKUPCHAN,
            limit=size,
            offset=(page - 1) * size,
        )
        return answer({"targets": list(map(rendering.target, found))})

    async def search_targets(self, request: Request, who: Principal) -> Response:
        wanted = parsing.search(request.query_params)
        found = await threads.run(
            self._service.targets.list, who, face=Face.BACKUPCHAN, filter_=wanted
        )
        return answer({"targets": list(map(rendering.target, found))})

    async def create_target(self, request: Request, who: Principal) -> Response:
        draft = parsing.draft(await parsing.body(request, idle=self._idle))
        made = await threads.run(self._service.targets.create, who, draft)
        return answer({"id": made.uid}, 201)

    async def get_target(self, request: Request, who: Principal) -> Response:
        def look() -> tuple[Target, Sequence[Backup]]:
            target = self._target(request, who)
            return target, self._service.backups.list(who, target)

        target, backups = await threads.run(look)
        return answer(
            {
                "target": rendering.target(target),
                "backups": [rendering.backup(each, target.uid) for each in backups],
            }
        )

    async def edit_target(self, request: Request, who: Principal) -> Response:
        parsed = await parsing.body(request, idle=self._idle)

        def edit() -> None:
            target = self._target(request, who)
            changed = self._service.targets.change(
                who, target, parsing.draft(parsed, before=target)
            )
            if (changed.pool_id, changed.name_template) != (target.pool_id, target.name_template):
                self._service.tasks.submit(who, Verb.TARGET_CHANGE, "relocate", target_id=target.id)

        await threads.run(edit)
        return answer()

    async def delete_target(self, request: Request, who: Principal) -> Response:
        files = parsing.flag(await parsing.body(request, idle=self._idle), "delete_files")
        await threads.run(
            lambda: self._service.targets.remove(who, self._target(request, who), files=files)
        )
        return answer()

    async def delete_all(self, request: Request, who: Principal) -> Response:
        return await self._delete_of(request, who, (BackupState.KEPT, BackupState.RECYCLED))

    async def delete_recycled(self, request: Request, who: Principal) -> Response:
        return await self._delete_of(request, who, (BackupState.RECYCLED,))

    async def _delete_of(
        self, request: Request, who: Principal, states: Sequence[BackupState]
    ) -> Response:
        files = parsing.flag(await parsing.body(request, idle=self._idle), "delete_files")

        def delete() -> Sequence[Backup]:
            backups = self._service.backups
            found = backups.list(who, self._target(request, who), states=states)
            return backups.delete_all(who, found, files=files)

        return _told_of_held(await threads.run(delete))

    # --- backups ----------------------------------------------------------------------------------

    async def upload(self, request: Request, who: Principal) -> Response:
        target = await threads.run(self._target, request, who)
        began = self._service.ground.now()
        backup = await uploading.take(self._service, request, who, target)
        job = await threads.run(
            self._service.tasks.note_done,
            who,
            "upload",
            started=began,
            target_id=target.id,
            backup_id=backup.id,
            report={"backup": backup.uid, "bytes": backup.size},
        )
        return answer({"job_id": job.id})

    async def download(self, request: Request, who: Principal) -> Response:
        def open_() -> Response:
            backup = self._backup(request, who)
            target = self._service.targets.get(who, backup.target_id)
            name = self._service.backups.file_name(backup, target)
            if target.shape is Shape.SINGLE:
                content = self._service.backups.open(who, backup)
                kind = "application/octet-stream"
            else:
                content = self._service.backups.archive(who, backup, _ARCHIVE, top=name)
                name, kind = f"{target.name}_{backup.uid}.{_ARCHIVE}", "application/x-xz"
            headers = {"Content-Disposition": _attachment(name), "Cache-Control": "no-store"}
            response = sending.respond(request, content, media_type=kind, headers=headers)
            if response.status_code == 416:  # noqa: PLR2004
                missing = {"Content-Range": response.headers["Content-Range"]}
                return answer({"message": "No byte of that range is there"}, 416, missing)
            return response

        return await threads.run(open_)

    async def delete_backup(self, request: Request, who: Principal) -> Response:
        files = parsing.flag(await parsing.body(request, idle=self._idle), "delete_files")
        backups = self._service.backups
        await threads.run(lambda: backups.delete(who, self._backup(request, who), files=files))
        return answer()

    async def recycle_backup(self, request: Request, who: Principal) -> Response:
        recycled = parsing.flag(await parsing.body(request, idle=self._idle), "is_recycled")
        backups = self._service.backups
        act = backups.recycle if recycled else backups.bring_back
        await threads.run(lambda: act(who, self._backup(request, who)))
        return answer()

    def _recycled(self, who: Principal) -> Sequence[Backup]:
        return self._service.backups.list(who, face=Face.BACKUPCHAN, states=[BackupState.RECYCLED])

    async def list_bin(self, _request: Request, who: Principal) -> Response:
        def look() -> list[dict[str, Any]]:
            found = self._recycled(who)
            targets = self._service.targets.list(who, face=Face.BACKUPCHAN)
            uids = {each.id: each.uid for each in targets}
            return [
                rendering.backup(each, uids[each.target_id])
                for each in found
                if each.target_id in uids  # made a moment later
            ]

        return answer({"backups": await threads.run(look)})

    async def clear_bin(self, request: Request, who: Principal) -> Response:
        files = parsing.flag(await parsing.body(request, idle=self._idle), "delete_files")

        def clear() -> Sequence[Backup]:
            return self._service.backups.delete_all(who, self._recycled(who), files=files)

        return _told_of_held(await threads.run(clear))

    # --- jobs, log, figures -----------------------------------------------------------------------

    async def list_jobs(self, _request: Request, who: Principal) -> Response:
        def look() -> dict[str, Any]:
            tasks = self._service.tasks.of_kinds(who, _DELAYED)
            plans = {plan.name: plan for plan in self._service.plans.list(who)}
            return {
                "delayed": [rendering.delayed(task) for task in tasks],
                "scheduled": [
                    rendering.scheduled(name, plans[kind])
                    for name, kind in rendering.JOBS.items()
                    if kind in plans
                ],
            }

        return answer(await threads.run(look))

    async def force_run(self, request: Request, who: Principal) -> Response:
        kind = rendering.JOBS.get(request.path_params["name"])
        if kind is None:
            raise RecordNotFoundError("There is no such job")
        await threads.run(
            self._service.tasks.submit,
            who,
            Verb.TASK_CONTROL,
            kind,
            priority=10,
            unless_waiting=True,
        )
        return answer()

    async def log(self, request: Request, who: Principal) -> Response:
        tail = parsing.number(request.query_params, "tail", 0)
        lines = await threads.run(self._service.log_tail, who, tail)
        return answer({"log": await threads.run(rendering.log, lines)})

    async def stats(self, _request: Request, who: Principal) -> Response:
        def look() -> dict[str, Any]:
            totals = self._service.backups.totals(who, face=Face.BACKUPCHAN)
            return {
                "program_version": f"2.9 (Holdfast {__version__})",
                "total_target_size": totals.size + totals.recycled_size,
                "total_recycle_bin_size": totals.recycled_size,
                "total_targets": self._service.targets.count(who, face=Face.BACKUPCHAN),
                "total_backups": totals.backups + totals.recycled,
                "total_recycled_backups": totals.recycled,
            }

        return answer(await threads.run(look))

    # --- sequential uploads -----------------------------------------------------------------------

    async def seq_begin(self, request: Request, who: Principal) -> Response:
        target = await threads.run(self._target, request, who)
        if target.shape is Shape.SINGLE:
            raise InvalidError("Cannot begin sequential upload on single-file target")
        parsed = await parsing.body(request, idle=self._idle, limit=parsing.LARGEST_LIST)
        files = parsing.files(parsed)
        manual = parsing.flag(parsed, "manual")
        await threads.run(self._service.uploads.begin, who, target, files, manual=manual)
        return answer()

    async def seq_check(self, request: Request, who: Principal) -> Response:
        def look() -> list[dict[str, Any]]:
            found = self._service.uploads.files(who, self._target(request, who))
            return [
                {"path": each.folder, "name": each.name, "uploaded": each.uploaded}
                for each in found
            ]

        return answer({"file_list": await threads.run(look)})

    async def seq_upload(self, request: Request, who: Principal) -> Response:
        target = await threads.run(self._target, request, who)
        await uploading.take_part(self._service, request, who, target)
        return answer()

    async def seq_finish(self, request: Request, who: Principal) -> Response:
        def finish() -> None:
            target = self._target(request, who)
            if not self._service.uploads.under_way(who, target):
                raise InvalidError("No upload is under way")
            try:
                self._service.uploads.finish(who, target)
            except StateError as error:  # 409, as the clients expect
                raise RecordExistsError(error.message, remedy=error.advice) from error

        await threads.run(finish)
        return answer()

    async def seq_terminate(self, request: Request, who: Principal) -> Response:
        await threads.run(lambda: self._service.uploads.terminate(who, self._target(request, who)))
        return answer()


def _id(request: Request) -> str:
    """What a path names. A NUL, which no database takes, is in no id and no alias."""
    text: str = request.path_params["id"]
    if "\0" in text:
        raise RecordNotFoundError("there is nothing of that name")
    return text


def _refusal(error: HoldfastError) -> Response:
    status = error.http_status
    message = error.message
    if isinstance(error, WrongCredentialsError):
        status, message = 403, "Invalid API key"
    elif isinstance(error, NotSignedInError):
        message = "Unauthorized"
    elif isinstance(error, StateError):
        status = 400  # recycling what is recycled
    elif isinstance(error, ObjectNotFoundError | NoRepositoryError):
        status = 503  # the backup is known: its disk is not there
    headers = {"Retry-After": "5"} if status in {429, 503} else {}
    values: dict[str, Any] = {"message": message}
    if error.advice:
        values["advice"] = error.advice
    return answer(values, status, headers)


def _told_of_held(held: Sequence[Backup]) -> Response:
    """Those that a hold protects were left; the rest is gone."""
    return answer({"held": [each.uid for each in held]} if held else None)


def _attachment(name: str) -> str:
    """Nothing may follow the name: the client library takes all the rest of the header for it, and
    puts it behind a folder's as it is.
    """
    safe = re.sub(r'[\x00-\x1f\x7f"/\\]', "_", name)
    return f'attachment; filename="{safe}"'.encode().decode("latin-1")
