"""ACAS Xu: 45 small networks that advise an aircraft how to avoid another, the standard example of verification."""

from __future__ import annotations

from pathlib import Path

from engram.tasks.data.files import DataFile, DataSet, Locate

_SOURCE = "https://raw.githubusercontent.com/guykatzz/ReluplexCav2017/master/nnet/"
_FILE = "ACASXU_run2a_{}_batch_2000.nnet"
# MD5 and size.
_FILES = {
    "1_1": ("994351a9ea32012426c65b52f56ea0b7", 167509),
    "1_2": ("94198e1d049e28ab1da8c14eac62a71b", 167672),
    "1_3": ("100cb0011748408f2aab2b19238f2620", 167380),
    "1_4": ("e1cc1e6d50debf09b6aafd7ca5e42f06", 167362),
    "1_5": ("0f13e7b2f3bb767020dcef6382a2e858", 167595),
    "1_6": ("a0944a12e461273ba7fc247c761ddc3c", 167501),
    "1_7": ("16bf508f1ca63908532f791de0bdf4c7", 167424),
    "1_8": ("a00eb1e64d69cd3b3eea6d6a1a5b3eb3", 167366),
    "1_9": ("6982f5c6318f60528b856db796fa775a", 167482),
    "2_1": ("f3f8a5e7919293a862ec326e20d1166f", 167464),
    "2_2": ("ebf62ea060d81ce05235b9c143272e31", 167718),
    "2_3": ("a30fbba4ada1f181f2660622ae69688b", 167592),
    "2_4": ("9207cc1a7a85841dc36a210ad47e5a82", 167500),
    "2_5": ("d662b71d52e0edc0b742f33c32b65c85", 167469),
    "2_6": ("618c5d1e5570ef483981d7edb5f7e7ef", 167537),
    "2_7": ("f015e79fc70df1b4e3873569091725e4", 167697),
    "2_8": ("3b4093ad674891764a4274f516f77b76", 167467),
    "2_9": ("30770a083907f43da08b24567f057cba", 167663),
    "3_1": ("b3b0d183d09b14e7bea2ae19ed8d37e2", 167667),
    "3_2": ("5b5bbf3f0c4f9d523f478355e629f75c", 167596),
    "3_3": ("33758831c4803634a5dd53de52f622a0", 167539),
    "3_4": ("4412368178a5fe9e6384d31edd91db1b", 167610),
    "3_5": ("89944da3eabe4807cda1735cdceca65a", 167705),
    "3_6": ("14276d2fd89c43594175a06004d74a4c", 167306),
    "3_7": ("bbfea76a72f276979ec71be271e57008", 167428),
    "3_8": ("4eb6dcfb8cc3c200e8470a85c3aad586", 167789),
    "3_9": ("6b686d8c7d0f00427a307decaf366818", 167570),
    "4_1": ("ff5f0306fa1451fa9217f472fefbcb43", 167600),
    "4_2": ("eb616a1ade247724db7933e02760211a", 167648),
    "4_3": ("41b1adaeed960deb7350af518ecd0a65", 167662),
    "4_4": ("58856225af7da3333b39c5f7757a8d81", 167575),
    "4_5": ("d37e4d92d9aa32d909c8eedd98c6410b", 167349),
    "4_6": ("c261d351739bc99ccb90026f2a4ddeb0", 167457),
    "4_7": ("b5ac68706fff41e14d28ae8c981496d6", 167614),
    "4_8": ("53019b64462626620631aa73a504df49", 167375),
    "4_9": ("34a3b743749717dece74f89305b85afc", 167257),
    "5_1": ("d33a0689be56176a410b2ed02730e232", 167747),
    "5_2": ("0dfad040919b08ac07de56cdfe153433", 167708),
    "5_3": ("2359d7f566a55f1f190f9253309d1c47", 167551),
    "5_4": ("3ff30ac61da73a8e7d724379c77810e0", 167646),
    "5_5": ("7e4b0a12212ed5aa50f1922187e6b0bf", 167618),
    "5_6": ("075d73d7c85dc7f2864300364a2e47af", 167657),
    "5_7": ("7a2d09e74983930e51ac77a3ce1b0028", 167580),
    "5_8": ("52e9e7cd4a6239a922e8b6d93cb466da", 167505),
    "5_9": ("228995f0dca455574098a1cdfa38ff3c", 167495),
}


def read(locate: Locate, network: str = "1_1") -> Path:
    """Return where a network lies: last advice, 1 to 5, and time until vertical separation is lost, 1 to 9."""
    if network not in _FILES:
        raise ValueError(f"network = {network!r}: expected '1_1' to '5_9'")
    return locate(f"acasxu/{_FILE.format(network)}")


ACASXU = DataSet(
    name="acasxu",
    title="ACAS Xu: 45 networks of 5 inputs, 6 x 50 ReLU and 5 outputs, in the format NNet; network='1_1' to '5_9'",
    licence="CC BY 4.0",
    citation="Katz, Barrett, Dill, Julian and Kochenderfer (2017), Reluplex: an efficient SMT solver for verifying "
    "deep neural networks, CAV; (C) 2016-2017 its authors and Stanford University",
    files=tuple(
        DataFile(f"acasxu/{_FILE.format(name)}", f"{_SOURCE}{_FILE.format(name)}", f"md5:{md5}", size)
        for name, (md5, size) in _FILES.items()
    ),
    read=read,
)
