"""Settings of the service, each with its default: environment variables ``NAS_…``, or options of ``nas serve``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """``NAS_<FIELD>`` in the environment sets a field; ``NAS_<FIELD>_FILE`` names a file with its value (secrets)."""

    model_config = SettingsConfigDict(env_prefix="NAS_", extra="ignore", validate_default=True)

    data_dir: Path = Field(Path("nas-data"), description="folder of the database, artifacts, logs and keys")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder")
    host: str = Field("127.0.0.1", description="address that the server listens on")
    port: int = Field(8000, ge=0, le=65535, description="port of the API and pages")
    optuna_port: int = Field(8001, ge=0, le=65535, description="port of Optuna's dashboard; 0: any free port")
    public_hosts: Annotated[list[str], NoDecode] = Field(
        [], description="host names that browsers may use, comma-separated"
    )
    insecure_loopback: bool = Field(False, description="no token needed; only when listening on a loopback address")
    max_body_bytes: int = Field(1 << 20, ge=1 << 10, description="largest request body")

    executor: Literal["ray", "inline"] = Field(
        "ray", description="inline: train in the driver's process, without Ray; for debugging"
    )
    ray_address: str = Field(
        "local", description="'local': start a Ray head of our own; else a cluster's dashboard URL, http://host:8265"
    )
    ray_cpus: int = Field(0, ge=0, description="CPUs of our own Ray head; 0: all of this machine")
    ray_gpus: int = Field(-1, ge=-1, description="GPUs of our own Ray head; -1: all of this machine")
    ray_token_path: Path | None = Field(None, description="file with Ray's token; empty: made in the data folder")

    dataset_roots: Annotated[list[Path], NoDecode] = Field(
        [Path("/usr/share/datasets")], description="folders that data sets may be read from, comma-separated"
    )
    allow_drill: bool = Field(False, description="allow the drill evaluator, which rehearses failures")

    lease_seconds: float = Field(30.0, gt=0, description="a driver that is silent this long has lost its search")
    heartbeat_seconds: float = Field(5.0, gt=0, description="how often a driver renews its lease")
    sweep_seconds: float = Field(2.0, gt=0, description="how often the supervisor looks for work")
    max_driver_restarts: int = Field(
        20, ge=0, description="driver starts without a new result before a search is given up"
    )
    max_attempts: int = Field(3, ge=1, description="runs of one candidate when the infrastructure fails under it")

    @field_validator("dataset_roots", "public_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @property
    def url(self) -> str:
        """The database's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'nas.db'}"

    @property
    def searches_dir(self) -> Path:
        return self.data_dir / "searches"

    @property
    def exports_dir(self) -> Path:
        return self.data_dir / "exports"

    @property
    def upload_dir(self) -> Path:
        """Data sets may be dropped here; it is always one of the data set roots."""
        return self.data_dir / "datasets"

    def roots(self) -> list[Path]:
        """Folders that data sets may be read from."""
        return [self.upload_dir, *self.dataset_roots]

    def token_path(self) -> Path:
        """Where Ray's token lies."""
        return self.ray_token_path or self.data_dir / "ray.token"

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for drivers; secrets (the database's URL) are left out."""
        skip = {"database_url"} if self.database_url else set()
        values = self.model_dump(mode="json", exclude=skip)
        flat = {name: ",".join(v) if isinstance(v, list) else v for name, v in values.items() if v is not None}
        return {f"NAS_{name.upper()}": str(value) for name, value in flat.items()}


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, secrets from ``NAS_…_FILE``; ``overrides`` win where they are not None."""
    given = {name: value for name, value in overrides.items() if value is not None}
    for name in Settings.model_fields:
        file = os.environ.get(f"NAS_{name.upper()}_FILE")
        if file and name not in given:
            given[name] = Path(file).read_text().strip()
    return Settings(**given)  # type: ignore[arg-type]  # values come from the environment and are validated here
