"""A redirect as small Python jumps do it: Flask, and one question to Redis after the other.

Stands for the original jump in `jump.sh`. Run by hypercorn: `hypercorn jump_peer:served`, with REDIS naming
the port, ORIGIN the base without nodes.
"""

import os

import flask
import redis
from hypercorn.middleware import AsyncioWSGIMiddleware

app = flask.Flask(__name__)
store = redis.Redis(port=int(os.environ["REDIS"]), db=2, decode_responses=True)
origin = os.environ["ORIGIN"]


@app.route("/<path:path>")
def jump(path):
    """To the node with the lowest number that has reported, else to the origin."""
    for number in range(1, 6):
        url = store.get(f"jump_{number}")
        if url:
            return flask.redirect(url + path)
    return flask.redirect(origin + path)


served = AsyncioWSGIMiddleware(app)
