"""BentoML's typed API as its pages show it; features come ready-made.

PEER_MODEL names the model's file, PEER_MISSING the number that stands for a missing value.

bentoml serve with_bentoml:Scorer --port PORT
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import bentoml
import numpy as np
import xgboost


@bentoml.service(workers=1)
class Scorer:
    def __init__(self) -> None:
        self.model = xgboost.Booster(params={"nthread": 1}, model_file=os.environ["PEER_MODEL"])
        self.model.set_param({"nthread": 1})
        self.missing = float(os.environ["PEER_MISSING"])

    @bentoml.api(route="/score")
    async def score(self, features: list[list[float]]) -> list[float]:
        found = np.array(features, dtype=np.float32)
        return self.model.inplace_predict(found, missing=self.missing, validate_features=False).tolist()
