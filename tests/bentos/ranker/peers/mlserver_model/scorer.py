"""MLServer with a runtime of its own: its XGBoost runtime goes through scikit-learn's wrapper, which costs more."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import xgboost
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Scorer(MLModel):
    async def load(self) -> bool:
        self.model = xgboost.Booster(params={"nthread": 1}, model_file=os.environ["PEER_MODEL"])
        self.model.set_param({"nthread": 1})
        self.missing = float(os.environ["PEER_MISSING"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        features = NumpyCodec.decode_input(payload.inputs[0])
        scores = self.model.inplace_predict(features, missing=self.missing, validate_features=False)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])
