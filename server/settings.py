"""All settings of the server (and of the parts that a worker shares with it), read from `ACAMKD_*` variables.

Nothing reads the environment elsewhere: `Settings` is built once at the edge and passed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

CommaList = Annotated[tuple[str, ...], NoDecode]
MEBI = 1024 * 1024
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Where things are and what is allowed. Every field is `ACAMKD_<NAME>`; lists are separated by commas."""

    model_config = SettingsConfigDict(env_prefix="ACAMKD_", env_file=None, env_ignore_empty=True, extra="ignore")

    data_dir: Path = Field(default=Path(".acamkd"), description="Folder of everything that is stored locally.")
    database_url: str = Field(default="", description="SQLAlchemy URL; empty = SQLite inside data_dir.")
    broker_url: str = Field(default="", description="Redis or Valkey URL; empty = no wake-ups, workers poll.")
    storage_url: str = Field(default="", description="s3://bucket/prefix, or a folder; empty = data_dir/blobs.")
    storage_endpoint: str | None = Field(default=None, description="S3 endpoint, e.g. http://store:8333.")
    storage_region: str = Field(default="us-east-1", description="S3 region.")
    storage_key_id: str | None = Field(default=None, description="S3 access key id.")
    storage_secret: SecretStr | None = Field(default=None, description="S3 secret access key.")
    storage_presign: bool = Field(
        default=False, description="Redirect downloads to presigned URLs (clients must reach the endpoint)."
    )
    dataset_roots: CommaList = Field(
        default=(), description="Folders that jobs may read datasets and weights from; data_dir/uploads is always one."
    )
    code_roots: CommaList = Field(
        default=(),
        description="Folders whose programs (.pt2) may teach: their code runs as the worker's user. Empty: none may. Never "
        "inside the data folder or the store, where uploads lie.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on; anything but loopback requires keys.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on.")
    allowed_hosts: CommaList = Field(default=(), description="More Host headers that are accepted, without port.")
    allowed_origins: CommaList = Field(default=(), description="More Origin headers that are accepted.")
    require_keys: bool = Field(default=False, description="Ask for an API key on loopback too.")
    max_body_bytes: int = Field(default=2 * MEBI, ge=1024, description="Largest request body, uploads excepted.")
    max_upload_bytes: int = Field(default=4096 * MEBI, ge=1024, description="Largest uploaded file.")
    max_unpacked_bytes: int = Field(default=16384 * MEBI, ge=1024, description="Largest unpacked archive.")
    max_unpacked_files: int = Field(default=200_000, ge=1, description="Most files in an archive.")
    max_unpack_ratio: float = Field(default=200.0, gt=1, description="Largest unpacked/packed ratio of an archive.")
    max_page_size: int = Field(default=200, ge=1, description="Largest page of a list.")
    max_streams: int = Field(default=500, ge=1, description="Most open event streams of a process.")
    log_json: bool = Field(default=False, description="Structured logs as JSON lines instead of text.")

    @field_validator("dataset_roots", "code_roots", "allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("code_roots")
    @classmethod
    def _apart(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """What users send to a server must never become a program, by whatever name."""
        filled = [Path(info.data.get("data_dir") or ".acamkd")]
        if (store := info.data.get("storage_url")) and "://" not in store:
            filled.append(Path(store))
        for root in value:
            folder = Path(root).expanduser().resolve()
            for other in (one.expanduser().resolve() for one in filled):
                if folder.is_relative_to(other) or other.is_relative_to(folder):
                    raise ValueError(f"{root} and {other} have to lie apart: uploads are no programs")
        return value

    @property
    def database(self) -> str:
        """The database URL with its default filled in."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'acamkd.db').resolve()}"

    @property
    def storage(self) -> str:
        """The storage URL or folder with its default filled in."""
        return self.storage_url or str((self.data_dir / "blobs").resolve())

    @property
    def uploads_dir(self) -> Path:
        """Where unpacked dataset uploads lie; always a dataset root."""
        return (self.data_dir / "uploads").resolve()

    @property
    def roots(self) -> tuple[Path, ...]:
        """Every folder that datasets and weights may come from, resolved."""
        return (self.uploads_dir, *(Path(root).expanduser().resolve() for root in self.dataset_roots))

    @property
    def code_folders(self) -> tuple[Path, ...]:
        """Every folder that programs may come from, resolved."""
        return tuple(Path(root).expanduser().resolve() for root in self.code_roots)

    @property
    def keys_required(self) -> bool:
        """Whether requests need an API key: always, unless bound to loopback only."""
        return self.require_keys or self.host not in LOOPBACK
