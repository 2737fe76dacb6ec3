"""FastAPI as its pages show it: a pydantic body, a pydantic answer; features come ready-made.

python with_fastapi.py PORT MODEL MISSING
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import uvicorn
import xgboost
from fastapi import FastAPI
from pydantic import BaseModel

model = xgboost.Booster(params={"nthread": 1}, model_file=sys.argv[2])
model.set_param({"nthread": 1})
missing = float(sys.argv[3])
app = FastAPI()


class Features(BaseModel):
    features: list[list[float]]


class Scores(BaseModel):
    scores: list[float]


@app.post("/score")
async def score(asked: Features) -> Scores:
    features = np.array(asked.features, dtype=np.float32)
    return Scores(scores=model.inplace_predict(features, missing=missing, validate_features=False).tolist())


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="error")
