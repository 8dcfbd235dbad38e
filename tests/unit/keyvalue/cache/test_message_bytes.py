"""The bytes of messages between replicas, recorded: replicas of different releases must understand each other."""

from __future__ import annotations

import pytest

from contracts.nkeys import KeyKind, encode_seed
from provider.keyvalue.cache.causality import Context
from provider.keyvalue.cache.messages import (
    AddBytes,
    AddCount,
    AddElement,
    AddMember,
    AddText,
    BytesState,
    CellState,
    ContextState,
    CounterRemoval,
    Deltas,
    ElementState,
    Event,
    Heartbeat,
    MemberState,
    Message,
    Piece,
    PieceRequest,
    TallyState,
    TextState,
    TransferPage,
    TransferRequest,
    decode_message,
    encode_message,
    pack,
    version_of,
)
from provider.keyvalue.cache.peers import Peers
from provider.keyvalue.cache.trust import signed
from provider.keyvalue.cache.trust.cluster_keys import ClusterKeys
from provider.keyvalue.cache.trust.signed import SignedHead

MAX_BYTES = 2 * 1024 * 1024
SENDER = "sender-00001"
A, B, ENDED = "replica-0001", "replica-0002", "gone-0000001"

RECORDED: list[tuple[Message, str]] = [
    (
        Deltas(
            7,
            [
                Event(66_000_000_000_001, "text", AddText("täxt", 1_700_000_000_000), {A: [1, 5], B: [2]}, []),
                Event(66_000_000_000_002, "set", AddMember("m"), {}, []),
                Event(66_000_000_000_003, "list", AddElement("e"), {}, []),
                Event(
                    66_000_000_000_004, "counter", AddCount(3, (B, 2), -12, 0), {A: [4]}, [CounterRemoval(B, 1, 2, 40)]
                ),
                Event(66_000_000_000_005, "counter", AddCount(4, None, 5, 9), {}, []),
                Event(66_000_000_000_006, "gone", None, {B: [300]}, []),
            ],
        ),
        (
            "6b76726301001a32d6cc73656e6465722d30303030319301079695cf00003c06d28e2001a4746578749301a574c3a478"
            "74cf0000018bcfe5680082ac7265706c6963612d30303031920105ac7265706c6963612d3030303291029095cf00003c"
            "06d28e2002a37365749202a16d809095cf00003c06d28e2003a46c6973749203a165809095cf00003c06d28e2004a763"
            "6f756e74657295040392ac7265706c6963612d3030303202f40081ac7265706c6963612d3030303191049194ac726570"
            "6c6963612d3030303201022895cf00003c06d28e2005a7636f756e746572950404c00509809095cf00003c06d28e2006"
            "a4676f6e65c081ac7265706c6963612d3030303291cd012c90"
        ),
    ),
    (
        Heartbeat({A: 7, B: 70_000}, 0x0123456789ABCD, True, False, True),
        (
            "6b7672630100f4371ef373656e6465722d3030303031960282ac7265706c6963612d3030303107ac7265706c6963612d"
            "30303032ce00011170cf000123456789abcdc3c2c3"
        ),
    ),
    (
        TransferRequest("", 0, ContextState({A: 7}, {B: [3, 5]})),
        (
            "6b767263010010cde3bd73656e6465722d30303030319403a0009281ac7265706c6963612d303030310781ac7265706c"
            "6963612d30303032920305"
        ),
    ),
    (TransferRequest("transfer", 2, None), "6b7672630100973b462973656e6465722d30303030319403a87472616e7366657202c0"),
    (
        TransferPage(
            "transfer",
            0,
            True,
            True,
            ContextState({A: 7, B: 9}, {A: [9]}),
            {B: 4},
            [
                CellState(
                    "text",
                    {A: 1},
                    [(B, 8)],
                    [
                        TextState(A, 1, 65536, "v", 9),
                        MemberState(A, 2, 65537, None, 0),
                        ElementState(B, 1, 65538, "e", 0),
                    ],
                    [
                        TallyState(A, 3, (A, 1), 4, 65539, 10, 0, 0, 0, None),
                        TallyState(B, 1, None, 2, 65540, 7, 5, 2, 7, (A, 6)),
                    ],
                    None,
                    (A, 2),
                ),
                CellState("rest", {}, [], [], [], (A, 2), None),
            ],
        ),
        (
            "6b767263010003b6f62a73656e6465722d30303030319804a87472616e7366657200c3c39282ac7265706c6963612d30"
            "30303107ac7265706c6963612d303030320981ac7265706c6963612d30303031910981ac7265706c6963612d30303032"
            "049297a47465787481ac7265706c6963612d30303031019192ac7265706c6963612d3030303208939601ac7265706c69"
            "63612d3030303101ce00010000a176099602ac7265706c6963612d3030303102ce00010001c0009603ac7265706c6963"
            "612d3030303201ce00010002a16500929aac7265706c6963612d303030310392ac7265706c6963612d303030310104ce"
            "000100030a000000c09aac7265706c6963612d3030303201c002ce000100040705020792ac7265706c6963612d303030"
            "3106c092ac7265706c6963612d303030310297a4726573748090909092ac7265706c6963612d3030303102c0"
        ),
    ),
]


@pytest.mark.parametrize(("message", "recorded"), RECORDED, ids=[type(message).__name__ for message, _ in RECORDED])
def test_a_message_has_the_bytes_that_other_releases_send_and_understand(message: Message, recorded: str) -> None:
    assert encode_message(SENDER, message).hex() == recorded
    assert decode_message(bytes.fromhex(recorded), MAX_BYTES) == (SENDER, message)


def test_a_heartbeat_of_a_release_without_pieces_is_understood() -> None:
    recorded = (
        "6b76726301006c9b7e4673656e6465722d3030303031950282ac7265706c6963612d3030303107ac7265706c6963612d"
        "30303032ce00011170cf000123456789abcdc3c2"
    )
    message = Heartbeat({A: 7, B: 70_000}, 0x0123456789ABCD, True, False, takes_pieces=False)
    assert decode_message(bytes.fromhex(recorded), MAX_BYTES) == (SENDER, message)


def test_a_compressed_message_of_another_release_is_understood() -> None:
    recorded = (
        "6b7672630101dc37abb573656e6465722d30303030317801edd4310d8030140450be934ac244c30081a5434724401a04"
        "544b5da0061fe46d375fee5e8bb89fe86b8b77ccdbb12fa9e45a92a4033bf0051e909084242421094948421292908424"
        "242109494842129290842424210949484212929084242421094948421292908424242109494842129290842424210949"
        "484212929084242421094948421292908424242109494842129290842424210949484212929084242421094948421292"
        "908424242109494842129290842424210949484212929084242421094948421292908424242109494842129290842424"
        "210949484212929084242421094948421292908424242109494842129290842424210949484212929084242421094948"
        "421292908424242109494842129290842424210949484212929084242421094948421292908424242109494842129290"
        "842424e11f249cceeb030a5571ba"
    )
    message = Deltas(1, [Event(1, "k", AddText("long text " * 5000, 0), {}, [])])
    assert decode_message(bytes.fromhex(recorded), MAX_BYTES) == (SENDER, message)


def test_a_heartbeat_has_the_digest_that_other_releases_compute() -> None:
    members = Peers(A, 100.0)
    members.receive(B, Heartbeat({}, 0, False, False), 0.0)
    context = Context({A: 7, B: 3, ENDED: 9}, {B: {5, 9}, ENDED: {12}})
    recorded = (
        "6b76726301003f98d3ac7265706c6963612d30303031960282ac7265706c6963612d3030303107ac7265706c6963612d"
        "3030303203cf00c7639f326346f2c2c2c3"
    )
    assert encode_message(A, members.heartbeat(context)).hex() == recorded


def test_a_signed_message_has_the_bytes_that_other_releases_send_and_understand() -> None:
    keys = ClusterKeys("lattice", encode_seed(KeyKind.CLUSTER, bytes(range(32))).text, [])
    head = SignedHead(signed.HEARTBEAT, SENDER, 7, 1_700_000_000_000, 3, keys.issuer)
    message = Heartbeat({A: 7, B: 0}, 5, True, False, True)
    recorded = (
        "6b76726302000203a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b873656e6465722d3030"
        "30303100000000000000070000018bcfe568000000000000000003cfb54578783454385ba09714012e93df1b352675f7"
        "860ce6407e5faafb8d8662eccf3a073f59edcd15e93b83a25d5b27fc133755eab78305ac5404f1caa5830e79869c4ed4"
        "fda5cfb59309c7e9d612d4960282ac7265706c6963612d3030303107ac7265706c6963612d303030320005c3c2c3"
    )
    data = signed.sign(keys, "cache.state", head, pack(message))
    assert data.hex() == recorded
    assert signed.head_of(data) == head
    assert signed.is_signed(keys, "cache.state", head, data)
    assert signed.message_of(head, data, MAX_BYTES) == message


BINARY_DELTAS = Deltas(4, [Event(66_000_000_000_001, "k", AddBytes(b"\xff\x00", 9), {A: [1]}, [])])
BINARY_CELL = CellState("k", {A: 1}, [], [BytesState(A, 1, 65536, b"\xff", 9)], [], None, None)
BINARY: list[tuple[Message, str]] = [
    (
        BINARY_DELTAS,
        (
            "6b7672630300dc1e6ce973656e6465722d30303030319301049195cf00003c06d28e2001a16b9305c402ff000981ac72"
            "65706c6963612d30303031910190"
        ),
    ),
    (
        TransferPage("transfer", 1, True, False, None, {}, [BINARY_CELL]),
        (
            "6b76726303008d4f905573656e6465722d30303030319804a87472616e7366657201c3c2c0809197a16b81ac7265706c"
            "6963612d303030310190919605ac7265706c6963612d3030303101ce00010000c401ff0990c0c0"
        ),
    ),
]


PIECE = Piece(7, 2, 5, 300_000, b"", b"\xc3tail")
PIECES: list[tuple[Message, str]] = [
    (PIECE, "6b76726305001d6a107373656e6465722d30303030319705070205ce000493e0c400c405c37461696c"),
    (PieceRequest("transfer", 3, 2), "6b767263050063e9a3e473656e6465722d30303030319406a87472616e736665720302"),
]

LATER = [
    *((message, recorded, 3) for message, recorded in BINARY),
    *((message, recorded, 5) for message, recorded in PIECES),
]


@pytest.mark.parametrize(
    ("message", "recorded", "version"), LATER, ids=[type(message).__name__ for message, _, _ in LATER]
)
def test_a_message_of_a_later_release_has_a_version_that_earlier_ones_refuse(
    message: Message, recorded: str, version: int
) -> None:
    assert encode_message(SENDER, message).hex() == recorded
    assert version_of(bytes.fromhex(recorded)) == version
    assert decode_message(bytes.fromhex(recorded), MAX_BYTES) == (SENDER, message)


SIGNED_BINARY = (
    "6b76726304000103a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b873656e6465722d3030"
    "30303100000000000000070000018bcfe56800000000000000000027eef659f9074eeead41bf9c5633a4b8524cd32f77"
    "1a3ee92ef3f4855df94f18b48391c0dd48407490aa410c7f8a9ead044f22bf78116d1e8ce7850acbb9d104"
    "c1e524833b2e4ed859043a3c8aeaa9f8"
    "9301049195cf00003c06d28e2001a16b9305c402ff000981ac7265706c6963612d30303031910190"
)
SIGNED_PIECE = (
    "6b76726306000503a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b873656e6465722d3030"
    "30303100000000000000070000018bcfe56800000000000000000356e4aa097ad7e22c15d26cbc61c842de6442cdf972"
    "1cf8ccaa12e5411b1ee52390255bf2e92ff3c8350992d9fc1a6f014ff260b3ad03e6c4d584a01bb2891300336e146efc"
    "0f406448774577c55508639705070205ce000493e0c400c405c37461696c"
)


@pytest.mark.parametrize(
    ("message", "kind", "answers", "release", "version", "recorded"),
    [
        (BINARY_DELTAS, signed.DELTAS, 0, 1, 4, SIGNED_BINARY),
        (PIECE, signed.PIECE, 3, 2, 6, SIGNED_PIECE),
    ],
    ids=["binary value", "piece"],
)
def test_a_signed_message_of_a_later_release_has_a_version_of_its_own_too(
    message: Message, kind: int, answers: int, release: int, version: int, recorded: str
) -> None:
    keys = ClusterKeys("lattice", encode_seed(KeyKind.CLUSTER, bytes(range(32))).text, [])
    head = SignedHead(kind, SENDER, 7, 1_700_000_000_000, answers, keys.issuer, release=release)
    data = signed.sign(keys, "cache.state", head, pack(message))
    assert data.hex() == recorded
    assert version_of(data) == version
    assert signed.head_of(data) == head
    assert signed.is_signed(keys, "cache.state", head, data)
    assert signed.message_of(head, data, MAX_BYTES) == message
