"""Bodies as the OpenAPI document shows them, where the gateway itself passes them on without looking at all of it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.exchange import CHAT, COMPLETIONS, RESPONSES


class Loose(BaseModel):
    """Further fields may be there."""

    model_config = ConfigDict(extra="allow")


class Message(Loose):
    """One turn of a conversation. Text may come as a string or in parts."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list["TextPart"] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class TextPart(Loose):
    """A part of a message."""

    type: Literal["text"]
    text: str


class StreamOptions(Loose):
    """What a stream is to carry."""

    include_usage: bool | None = Field(None, description="the tokens' number in a last event")


class Sampled(Loose):
    """How an answer is to be written; vLLM's further parameters go with it."""

    model: str = Field(min_length=1, description="an assistant, an adapter's alias or version, or the base model")
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    user: str | None = Field(None, description="whose conversation it is")


class Several(Sampled):
    """What chat completions and completions have in common."""

    stream_options: StreamOptions | None = Field(None, description="only with `stream`")
    n: int | None = Field(None, ge=1, le=128, description="how many answers")
    max_tokens: int | None = Field(None, ge=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None


class ChatRequest(Several):
    """OpenAI's request for a chat completion."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(Several):
    """OpenAI's request for a completion: a text that is gone on with."""

    prompt: str | list[str] | list[int] | list[list[int]] = Field(description="a text or several, or their token ids")
    best_of: int | None = Field(None, ge=1, description="the best of so many are given")
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0)


class ResponseRequest(Sampled):
    """OpenAI's request for a response."""

    input: str | list[dict[str, Any]] = Field(description="a text, or messages and the results of tools")
    instructions: str | None = Field(None, description="a system prompt for this response only")
    previous_response_id: str | None = Field(None, description="the stored response that this one goes on from")
    store: bool | None = Field(None, description="whether it is stored; it is, unless told otherwise")
    max_output_tokens: int | None = Field(None, ge=1)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = Field(None, description="the form of the answer")


class Answer(Loose):
    """A message of the assistant."""

    role: Literal["assistant"]
    content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class Choice(Loose):
    """One of the answers asked for."""

    index: int
    message: Answer
    finish_reason: str | None
    logprobs: dict[str, Any] | None = None


class TokenUsage(Loose):
    """How many tokens were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Loose):
    """OpenAI's chat completion. `brogue` has the passages and what they support, where an assistant has documents."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str = Field(description="as it was asked for")
    choices: list[Choice]
    usage: TokenUsage | None = None
    brogue: dict[str, Any] | None = None


class TextChoice(Loose):
    """One of the texts asked for."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: dict[str, Any] | None = None


class Completion(Loose):
    """OpenAI's completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str = Field(description="as it was asked for")
    choices: list[TextChoice]
    usage: TokenUsage | None = None


class ResponseObject(Loose):
    """OpenAI's response."""

    id: str
    object: Literal["response"]
    created_at: int | float
    model: str = Field(description="as it was asked for")
    status: Literal["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"]
    output: list[dict[str, Any]]
    previous_response_id: str | None
    error: dict[str, Any] | None
    usage: dict[str, Any] | None


class ErrorObject(Loose):
    """OpenAI's error object."""

    message: str = Field(description="what was wanted, what was found, what to do")
    type: str
    param: str | None
    code: str | int | None


class ErrorAnswer(BaseModel):
    """An error."""

    error: ErrorObject


BODIES: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {  # by path: the request and the answer
    CHAT: (ChatRequest, ChatCompletion),
    COMPLETIONS: (CompletionRequest, Completion),
    RESPONSES: (ResponseRequest, ResponseObject),
}
ANSWER_HEADERS = {
    name: {"description": text, "schema": {"type": kind}}
    for name, kind, text in (
        ("x-brogue-response-id", "string", "By which the answer can be rated."),
        ("x-brogue-version", "string", "Who wrote it: an adapter's version, or `base`."),
        ("x-brogue-overhead-ms", "number", "What the gateway itself took."),
        ("x-brogue-retrieval-ms", "number", "What looking into documents took, where an assistant has some."),
    )
}
