"""A CloudFormation template as the stack that it makes: conditions decided, functions and parameters put in.

Only what ``deploy/template.yaml`` uses; an unknown function is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "cw",
}
_NOTHING = object()


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def _short(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {name: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _short)


class Stack:
    """A stack.

    :param path: of the template.
    :param parameters: those without a default, and others.
    :ivar resources: by logical name, those that exist.
    :ivar outputs: values by name, those that exist.
    """

    def __init__(self, path: Path, **parameters: str) -> None:
        self.template: dict[str, Any] = yaml.load(path.read_text(), _Loader)
        declared = self.template["Parameters"]
        assert parameters.keys() <= declared.keys()
        self.parameters = {
            name: parameters[name] if name in parameters else what["Default"]
            for name, what in declared.items()
        }
        self.resources: dict[str, dict[str, Any]] = {
            name: self._value(what)
            for name, what in self.template["Resources"].items()
            if "Condition" not in what or self._holds(what["Condition"])
        }
        self.outputs = {
            name: self._value(what["Value"])
            for name, what in self.template["Outputs"].items()
            if "Condition" not in what or self._holds(what["Condition"])
        }

    def of_type(self, name: str) -> dict[str, dict[str, Any]]:
        """Properties of the resources of a type, e.g. ``"AWS::IAM::Role"``."""
        return {
            logical: what["Properties"] for logical, what in self.resources.items() if what["Type"] == name
        }

    def policy(self, *names: str) -> list[dict[str, Any]]:
        """The statements of managed policies, or of roles with the managed policies that they have."""
        statements: list[dict[str, Any]] = []
        for name in names:
            properties = self.resources[name]["Properties"]
            if "PolicyDocument" in properties:
                statements += properties["PolicyDocument"]["Statement"]
                continue
            for policy in properties["Policies"]:
                statements += policy["PolicyDocument"]["Statement"]
            for managed in properties.get("ManagedPolicyArns", ()):
                statements += self.policy(managed.removeprefix("<").removesuffix(">"))
        return statements

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for item in value if (found := self._value(item)) is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._called(name, argument)
        return {key: found for key, item in value.items() if (found := self._value(item)) is not _NOTHING}

    def _called(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._ref(argument)
            case "Fn::GetAtt":
                return self._attribute(argument)
            case "Fn::Sub":
                text, own = argument if isinstance(argument, list) else (argument, {})
                return re.sub(
                    r"\$\{([^}]+)\}",
                    lambda found: str(self._value(own[found[1]]) if found[1] in own else self._ref(found[1])),
                    text,
                )
            case "Fn::Join":
                separator, items = argument
                return separator.join(self._value(items))
            case "Fn::Select":
                at, items = argument
                return self._value(items[int(at)])
            case "Fn::If":
                condition, yes, no = argument
                return self._value(yes if self._holds(condition) else no)
        raise AssertionError(f"unknown function {name}")

    def _attribute(self, name: str) -> str:
        resource, _, attribute = name.partition(".")
        found = self.template["Resources"][resource]
        if (found["Type"], attribute) == ("AWS::Logs::LogGroup", "Arn"):
            group = self._value(found["Properties"]["LogGroupName"])
            return f"arn:aws:logs:us-east-1:123456789012:log-group:{group}:*"
        return f"<{name}>"

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            value = self.parameters[name]
            kind = self.template["Parameters"][name]["Type"]
            return str(value).split(",") if kind == "CommaDelimitedList" else value
        if "." in name:
            return self._attribute(name)
        assert name in self.template["Resources"], name
        return f"<{name}>"

    def _holds(self, condition: str) -> bool:
        return self._true(self.template["Conditions"][condition])

    def _true(self, expression: dict[str, Any]) -> bool:
        ((name, arguments),) = expression.items()
        match name:
            case "Fn::Equals":
                one, other = (str(self._value(argument)) for argument in arguments)
                return one == other
            case "Fn::Not":
                return not self._true(arguments[0])
            case "Fn::Or":
                return any(map(self._true, arguments))
            case "Fn::And":
                return all(map(self._true, arguments))
            case "Condition":
                return self._holds(arguments)
        raise AssertionError(f"unknown condition {name}")
