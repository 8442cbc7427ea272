from jaxdiff.data.source import digest


def test_digest_is_the_known_sha256_of_the_json():
    assert digest({}) == '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a'


def test_digest_ignores_the_order_of_keys_and_sees_every_value():
    assert digest({'a': 1, 'b': [1, 2]}) == digest({'b': [1, 2], 'a': 1})
    assert digest({'a': 1, 'b': [1, 2]}) != digest({'a': 1, 'b': [1, 3]})
