"""The least that serves a model: uvicorn, orjson, `inplace_predict`; features come ready-made. Nothing is validated.

python bare.py PORT MODEL MISSING
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import orjson
import uvicorn
import xgboost

model = xgboost.Booster(params={"nthread": 1}, model_file=sys.argv[2])
model.set_param({"nthread": 1})
missing = float(sys.argv[3])


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    features = np.array(orjson.loads(body)["features"], dtype=np.float32)
    scores = model.inplace_predict(features, missing=missing, validate_features=False)
    answer = orjson.dumps({"scores": scores}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off", access_log=False, log_level="error"
    )
