"""Layers that are called in another way on the two sides: right ports match, and wrong ones do not."""

import pytest

pytestmark = pytest.mark.torch
ATTENTION = "self.first, self.mixer, self.head = nn.Linear(6, 6), nn.Multi{}ttention(6, 2{}), nn.Linear(6, 3)"
LSTM = "self.first, self.mixer, self.head = nn.Linear(6, 6), nn.LSTM(6, 5{}), nn.Linear(5, 3)"
CONV = "self.first, self.mixer, self.head = nn.Linear(6, 6), nn.Conv1{}(4, 4, 3), nn.Linear(4, 3)"
TORCH_ATTENTION, PADDLE_ATTENTION = ATTENTION.format("headA", ", batch_first=True"), ATTENTION.format("HeadA", "")
TORCH_LSTM, PADDLE_LSTM = LSTM.format(", batch_first=True"), LSTM.format("")
CALL = "x = self.first(x)\nreturn self.head({})"
STATE = "({p}.zeros([1, len(x), 5], dtype=x.dtype), {p}.{name}([1, len(x), 5], dtype=x.dtype))"
MASK = "({}.arange(4)[None] <= {}.arange(4)[:, None])"

CASES = [  # (layers and call of the reference, layers and call of the port, whether the port is right)
    (TORCH_ATTENTION, "self.mixer(x, x, x)[0]", PADDLE_ATTENTION, "self.mixer(x)", True),
    (TORCH_ATTENTION, "self.mixer(x, x, x)[0]", PADDLE_ATTENTION, "self.mixer(x, x * 2)", False),
    (TORCH_ATTENTION, "self.mixer(query=x, key=x, value=x)[0]", PADDLE_ATTENTION, "self.mixer(x, x, x)", True),
    (TORCH_ATTENTION, "self.mixer(x, x, x)[0]", PADDLE_ATTENTION, "self.mixer(query=x, key=x, value=x)", True),
    (
        TORCH_ATTENTION,
        f"self.mixer(x, x, x, attn_mask=~{MASK.format('torch', 'torch')})[0]",
        PADDLE_ATTENTION,
        f"self.mixer(x, x, x, {MASK.format('paddle', 'paddle')})",
        True,
    ),
    (
        TORCH_ATTENTION,
        f"self.mixer(x, x, x, attn_mask=~{MASK.format('torch', 'torch')})[0]",
        PADDLE_ATTENTION,
        "self.mixer(x, x, x)",
        False,
    ),
    (TORCH_LSTM, f"self.mixer(x, {STATE.format(p='torch', name='zeros')})[0]", PADDLE_LSTM, "self.mixer(x)[0]", True),
    (
        TORCH_LSTM,
        "self.mixer(x)[0]",
        PADDLE_LSTM,
        f"self.mixer(x, {STATE.format(p='paddle', name='ones')})[0]",
        False,
    ),
    (TORCH_LSTM, "self.mixer(x)[0]", PADDLE_LSTM, "self.mixer(inputs=x)[0]", True),
    (CONV.format("d"), "self.mixer(input=x).mT", CONV.format("D"), "self.mixer(x).transpose([0, 2, 1])", True),
    (CONV.format("d"), "self.mixer(x).mT", CONV.format("D"), "self.mixer(x=x).transpose([0, 2, 1])", True),
    (CONV.format("d"), "self.mixer(input=x).mT", CONV.format("D"), "self.mixer(x * 2).transpose([0, 2, 1])", False),
]


@pytest.mark.parametrize(("expected", "call", "port", "port_call", "is_right"), CASES)
def test_a_layer_is_called_in_another_way(compare, expected, call, port, port_call, is_right):
    verdict = compare((expected, CALL.format(call)), (port, CALL.format(port_call)), shape=(3, 4, 6))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()


@pytest.mark.parametrize(("lengths", "is_right"), [("[4, 4, 2, 4, 1, 3]", True), ("[4, 3, 2, 4, 1, 3]", False)])
def test_a_packed_sequence_beside_lengths(compare, lengths, is_right):
    expected = (
        "lengths = torch.tensor([4, 4, 2, 4, 1, 3])[:len(x)]\n"
        "x = nn.utils.rnn.pack_padded_sequence(self.first(x), lengths, batch_first=True, enforce_sorted=False)\n"
        "x = nn.utils.rnn.pad_packed_sequence(self.mixer(x)[0], batch_first=True)[0]\nreturn self.head(x)"
    )
    port = (
        f"lengths = paddle.to_tensor({lengths})[:len(x)]\n"
        "return self.head(self.mixer(self.first(x), sequence_length=lengths)[0])"
    )
    verdict = compare((TORCH_LSTM, expected), (PADDLE_LSTM, port), shape=(3, 4, 6))
    assert verdict.status == ("pass" if is_right else "fail"), verdict.first_problem()
