"""The whole service of one process: every noun, on one ground."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.access import Verb
from holdfast.service import logs
from holdfast.service.accounts import Accounts
from holdfast.service.agent_desk import AgentDesk
from holdfast.service.agents import Agents
from holdfast.service.app_schedule import AppSchedule
from holdfast.service.application import Application
from holdfast.service.backups import Backups
from holdfast.service.global_configuration import GlobalConfiguration
from holdfast.service.hosts import Hosts
from holdfast.service.nouns import people
from holdfast.service.nouns.keeping import Nouns
from holdfast.service.opening import open_ground
from holdfast.service.plans import Plans
from holdfast.service.pools import Pools
from holdfast.service.remote import Remote
from holdfast.service.settings import Settings
from holdfast.service.signing_in import SigningIn
from holdfast.service.storing import Storing
from holdfast.service.targets import Targets
from holdfast.service.tasks import Tasks
from holdfast.service.token_pairs import TokenPairs
from holdfast.service.tokens import Tokens
from holdfast.service.uploads import Uploads
from holdfast.service.users import Users

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.access import Principal
    from holdfast.service.ground import Ground


@dataclass(frozen=True, slots=True)
class Service:
    ground: Ground
    pools: Pools
    backups: Backups
    targets: Targets
    uploads: Uploads
    storing: Storing
    users: Users
    signing_in: SigningIn
    tokens: Tokens
    accounts: Accounts
    hosts: Hosts
    agents: Agents
    agent_desk: AgentDesk
    remote: Remote
    settings: Settings
    tasks: Tasks
    plans: Plans
    application: Application
    app_schedule: AppSchedule
    nouns: Nouns
    token_pairs: TokenPairs
    global_configuration: GlobalConfiguration

    @classmethod
    def on(cls, ground: Ground) -> Service:
        pools = Pools(ground)
        backups = Backups(ground, pools)
        tasks = Tasks(ground)
        plans = Plans(ground)
        settings = Settings(ground)
        agents = Agents(ground)
        signing_in = SigningIn(ground)
        application = Application(ground, pools, backups, tasks)
        return cls(
            ground=ground,
            pools=pools,
            backups=backups,
            targets=Targets(ground, pools, backups),
            uploads=Uploads(ground, pools, backups),
            storing=Storing(ground, pools),
            users=Users(ground),
            signing_in=signing_in,
            tokens=Tokens(ground),
            accounts=Accounts(ground),
            hosts=Hosts(ground),
            agents=agents,
            agent_desk=AgentDesk(ground, pools),
            remote=Remote(ground, agents, tasks),
            settings=settings,
            tasks=tasks,
            plans=plans,
            application=application,
            app_schedule=AppSchedule(ground, settings, plans, pools, application),
            nouns=Nouns(
                ground, (people.USER, people.USER_GROUP, people.CLIENT_GROUP, people.MEDIA_SERVER)
            ),
            token_pairs=TokenPairs(ground, signing_in),
            global_configuration=GlobalConfiguration(ground),
        )

    def log_tail(self, who: Principal, lines: int) -> str:
        """The last lines of this server's own log; all that is kept where `lines` is 0."""
        self.ground.allow(who, Verb.SETTING_READ, "log")
        return logs.tail(self.ground.folder, lines)

    def close(self) -> None:
        self.pools.close()
        self.tasks.close()
        self.ground.catalog.close()


def open_service(folder: Path, config_path: Path | None = None) -> Service:
    """Opens a data folder, which is made where there is none; works beside a running server.

    Raises:
        ConfigurationError, CatalogError
    """
    return Service.on(open_ground(folder, config_path))
