"""Presigned S3 downloads that carry a file name (AWS Signature Version 4, query parameters).

obstore signs the bare object only, and a content-addressed object has no name of its own: the name must be part of
what is signed (`response-content-disposition`).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit


@dataclass(frozen=True)
class Presigner:
    """Signs GET requests with one key. `url` is deterministic given `now`."""

    region: str
    key_id: str
    secret: str

    def url(self, object_url: str, *, filename: str, seconds: int, now: datetime | None = None) -> str:
        """A URL that downloads `object_url` (path style) under `filename` for so many seconds."""
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        parts = urlsplit(object_url)
        query = "&".join(
            f"{_escape(key)}={_escape(value)}"
            for key, value in sorted(
                {
                    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
                    "X-Amz-Credential": f"{self.key_id}/{scope}",
                    "X-Amz-Date": stamp,
                    "X-Amz-Expires": str(seconds),
                    "X-Amz-SignedHeaders": "host",
                    "response-content-disposition": f"attachment; filename*=UTF-8''{_escape(filename)}",
                }.items()
            )
        )
        path = quote(parts.path, safe="/-_.~")
        request = f"GET\n{path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = _mac(key, part)
        return f"{parts.scheme}://{parts.netloc}{path}?{query}&X-Amz-Signature={_mac(key, to_sign).hex()}"


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def _escape(text: str) -> str:
    return quote(text, safe="-_.~")
