"""Python SDK for the REST API. Needs pydantic and httpx, nothing else.

```python
from acamkd_core.client import Client

job = Client().jobs.create("job.yaml", set={"seed": 1})
job.wait(progress=True)
job.metrics("val/miou").to_pandas()
job.artifacts["onnx"].download("out/")
```
"""

from acamkd_core.client.client import DEFAULT_URL, Client
from acamkd_core.client.errors import ApiError, Unreachable
from acamkd_core.client.job import Job
from acamkd_core.client.series import Metric

__all__ = ["DEFAULT_URL", "ApiError", "Client", "Job", "Metric", "Unreachable"]
