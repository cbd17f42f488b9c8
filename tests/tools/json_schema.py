"""The part of JSON Schema (draft 2020-12) that the schemas in docs/reference/ use.

A keyword that is not known here is an error of the schema, so that nothing is
taken for checked that is not.
"""

TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
NOTES = {"$schema", "title", "description", "$defs"}


def resolve(root, reference):
    if not reference.startswith("#/"):
        raise ValueError(f"reference {reference!r} leads out of the schema")
    schema = root
    for part in reference[2:].split("/"):
        schema = schema[part]
    return schema


def check_object(value, schema, root, place):
    properties = schema.get("properties", {})
    problems = [f"{place}: {name!r} is not there"
                for name in schema.get("required", []) if name not in value]
    for name, member in value.items():
        if name in properties:
            problems += check(member, properties[name], root, f"{place}.{name}")
        elif schema.get("additionalProperties", True) is False:
            problems.append(f"{place}: {name!r} is not in the schema")
    return problems


def check_array(value, schema, root, place):
    problems = []
    if len(value) < schema.get("minItems", 0):
        problems.append(f"{place}: {len(value)} items")
    if "items" in schema:
        for i, item in enumerate(value):
            problems += check(item, schema["items"], root, f"{place}[{i}]")
    return problems


def check_type(value, wanted, place):
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if any(TYPES[name](value) for name in wanted):
        return []
    return [f"{place}: {value!r} is not of type {' or '.join(wanted)}"]


def check(value, schema, root=None, place="$"):
    """What is wrong with a value, one text each."""
    root = schema if root is None else root
    known = NOTES | {"type", "enum", "minimum", "maximum", "required", "properties",
                     "additionalProperties", "items", "minItems", "$ref"}
    if unknown := set(schema) - known:
        raise ValueError(f"keywords {sorted(unknown)} at {place}")
    problems = []
    if "$ref" in schema:
        problems += check(value, resolve(root, schema["$ref"]), root, place)
    if "type" in schema:
        problems += check_type(value, schema["type"], place)
    if "enum" in schema and value not in schema["enum"]:
        problems.append(f"{place}: {value!r} is none of {schema['enum']}")
    if TYPES["number"](value):
        if value < schema.get("minimum", value):
            problems.append(f"{place}: {value} is below {schema['minimum']}")
        if value > schema.get("maximum", value):
            problems.append(f"{place}: {value} is above {schema['maximum']}")
    if isinstance(value, dict):
        problems += check_object(value, schema, root, place)
    if isinstance(value, list):
        problems += check_array(value, schema, root, place)
    return problems
