from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UsageReportRequest(_message.Message):
    __slots__ = ("api_key_id", "user_model_name", "upstream_model_name", "usage", "mode", "user_id")
    class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        MODE_UNSPECIFIED: _ClassVar[UsageReportRequest.Mode]
        MODE_PER_REQUEST: _ClassVar[UsageReportRequest.Mode]

    MODE_UNSPECIFIED: UsageReportRequest.Mode
    MODE_PER_REQUEST: UsageReportRequest.Mode
    class Usage(_message.Message):
        __slots__ = ("input_tokens", "output_tokens", "cached_tokens")
        INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
        OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
        CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
        input_tokens: int
        output_tokens: int
        cached_tokens: int
        def __init__(
            self,
            input_tokens: _Optional[int] = ...,
            output_tokens: _Optional[int] = ...,
            cached_tokens: _Optional[int] = ...,
        ) -> None: ...

    API_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    USER_MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    api_key_id: str
    user_model_name: str
    upstream_model_name: str
    usage: UsageReportRequest.Usage
    mode: UsageReportRequest.Mode
    user_id: str
    def __init__(
        self,
        api_key_id: _Optional[str] = ...,
        user_model_name: _Optional[str] = ...,
        upstream_model_name: _Optional[str] = ...,
        usage: _Optional[_Union[UsageReportRequest.Usage, _Mapping]] = ...,
        mode: _Optional[_Union[UsageReportRequest.Mode, str]] = ...,
        user_id: _Optional[str] = ...,
    ) -> None: ...

class UsageReportResponse(_message.Message):
    __slots__ = ("accepted",)
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    def __init__(self, accepted: bool = ...) -> None: ...
