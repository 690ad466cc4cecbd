"""ComfyUI: a graph of nodes, of which any may be somebody's own.

What no program can know of nodes it has never seen is which of them matters. So each value is taken from the nearest
node upstream of the sampler that has one of its name, and every value that is not taken is reported as it is.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from producer.foreign.recipe import Recipe, join, make_recipe

Graph = Mapping[str, Mapping[str, Any]]
#: Inputs by the names that nodes have for them, the usual one first.
SEEDS, MODELS = ("seed", "noise_seed"), ("ckpt_name", "unet_name", "model_name")
SCALARS = {
    "seed": SEEDS, "steps": ("steps",), "scale": ("cfg",), "sampler": ("sampler_name",), "schedule": ("scheduler",),
    "strength": ("denoise",), "width": ("width",), "height": ("height",), "model": MODELS,
}  # fmt: skip
#: What holds words of a prompt.
WORDS = ("text", "text_g", "text_l", "t5xxl", "clip_l", "prompt", "string", "value", "populated_text", "wildcard_text")
#: Nodes that are gone through: no graph that somebody drew has more.
MOST = 5000


def read(graph: Mapping[str, Any]) -> Recipe | None:
    """The graph of an image, in the form of ComfyUI's API; None where nothing in it samples."""
    nodes = {str(key): node for key, node in list(graph.items())[:MOST] if _is_node(node)}
    samplers = [key for key in nodes if _samples(nodes, key)]
    if not samplers:
        return None
    first = min(samplers, key=lambda key: sum(other in samplers for other, _ in _upstream(nodes, key)))
    taken: set[tuple[str, str]] = set()
    found = dict(_scalars(nodes, first, taken))
    for name, link in (("prompt", "positive"), ("negative_prompt", "negative")):
        found[name] = join(_words(nodes, _link_of(nodes, first, link), taken))
    if not found["prompt"]:
        found["prompt"] = join(_words(nodes, _link_of(nodes, first, "conditioning"), taken))
    return make_recipe("ComfyUI", {**found, **dict(_rest(nodes, taken))}, {name: name for name in found})


def _is_node(node: object) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping)


def _samples(nodes: Graph, key: str) -> bool:
    """A node that takes latents and either guidance of its own or that of a guider."""
    inputs = nodes[key]["inputs"]
    latents = any(isinstance(inputs.get(name), list) for name in ("latent_image", "latent", "samples"))
    guided = isinstance(inputs.get("positive"), list) or isinstance(inputs.get("guider"), list)
    seeded = any(name in inputs for name in SEEDS) or isinstance(inputs.get("noise"), list)
    return latents and guided and seeded


def _upstream(nodes: Graph, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Nodes that a node is fed by, itself first, the nearest before others, each once."""
    waiting, seen = deque([key]), {key}
    while waiting:
        current = waiting.popleft()
        inputs = nodes[current]["inputs"]
        yield current, inputs
        for value in inputs.values():
            source = _source(nodes, value)
            if source and source not in seen:
                seen.add(source)
                waiting.append(source)


def _source(nodes: Graph, value: object) -> str | None:
    """The node a link leads to."""
    linked = isinstance(value, list) and len(value) == 2 and str(value[0]) in nodes
    return str(value[0]) if linked and isinstance(value, list) else None


def _scalars(nodes: Graph, sampler: str, taken: set[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    near = list(_upstream(nodes, sampler))
    for field, names in SCALARS.items():
        places = ((key, name, inputs[name]) for key, inputs in near for name in names if name in inputs)
        found = next(((key, name, value) for key, name, value in places if isinstance(value, str | int | float)), None)
        if found:
            taken.add(found[:2])
            yield field, found[2]


def _link_of(nodes: Graph, sampler: str, link: str) -> str | None:
    """Where the nearest link of that name leads."""
    links = (_source(nodes, inputs.get(link)) for _, inputs in _upstream(nodes, sampler))
    return next(filter(None, links), None)


def _words(nodes: Graph, key: str | None, taken: set[tuple[str, str]]) -> Iterator[str]:
    """The texts that a conditioning is made of."""
    if key is None:
        return
    for node, inputs in _upstream(nodes, key):
        if _samples(nodes, node):
            continue
        for name in WORDS:
            if isinstance(inputs.get(name), str):
                taken.add((node, name))
                yield inputs[name]


def _rest(nodes: Graph, taken: set[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    """Every value that no field has, by node and name."""
    for key, node in nodes.items():
        for name, value in node["inputs"].items():
            if (key, name) not in taken and _source(nodes, value) is None:
                yield f"{node.get('class_type', 'node')} {key} {name}", value
