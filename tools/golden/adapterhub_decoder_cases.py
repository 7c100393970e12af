"""The cases of make_adapterhub.py on decoders. `m.case` is its Maker's."""

import adapters
from adapters import BnConfig, DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
from adapters.composition import Average, Fuse, Stack

TOKEN, WORDS = "token-classification", "text-generation"


def decoder_cases(m):
    """Adapters before the next norm, on decoders of several families. `static`: transformers' own classes, whose causal heads are not in the files."""
    S, D, P = SeqBnConfig, DoubleSeqBnConfig, ParBnConfig
    both = dict(mh_adapter=True, output_adapter=True, reduction_factor=4, non_linearity="relu")
    configs = {
        "seq_bn": S(reduction_factor=4),
        "seq_bn-gelu": S(reduction_factor=2, non_linearity="gelu"),
        "double_seq_bn": D(reduction_factor=3),
        "par_bn": P(reduction_factor=3),
        "scaled_par_bn": P(reduction_factor=3, scaling="learned"),
        "seq_bn_inv": adapters.SeqBnInvConfig(reduction_factor=4),
        "double_seq_bn_inv": adapters.DoubleSeqBnInvConfig(reduction_factor=4, inv_adapter_reduction_factor=3),
        "adapter_plus": adapters.configuration.AdapterPlusConfig(reduction_factor=3, stochastic_depth=0.0),
        "gated": D(reduction_factor=4, use_gating=True),
        "channel": S(reduction_factor=4, scaling="channel"),
        "ln_after": S(reduction_factor=4, ln_after=True),
        "ln_after-residual_first": S(reduction_factor=4, ln_after=True, adapter_residual_before_ln=True),
        "ln_first-false": BnConfig(**both, original_ln_before=True, residual_before_ln=False),
        "factor-map": S(reduction_factor={"0": 2, "default": 5}),
        "leave_out": D(reduction_factor=4, leave_out=[0]),
        "attention-only": BnConfig(**{**both, "output_adapter": False, "non_linearity": "tanh"}),
        "compacter": adapters.CompacterConfig(reduction_factor=2, phm_dim=2),
        "compacter-plus": adapters.CompacterPlusPlusConfig(reduction_factor=2, phm_dim=2),
    }
    kept = {"gpt2-odd": ("double_seq_bn_inv", "gated"), "llama-odd": ("seq_bn_inv", "scaled_par_bn"), "mistral-odd": ("adapter_plus", "compacter"),
            "qwen2-odd": ("double_seq_bn",), "qwen3-odd": ("seq_bn_inv",)}
    for base in ("gpt2", "gpt2-odd", "llama", "llama-odd", "mistral-odd", "qwen2-odd", "qwen3-odd"):
        plugged = base.startswith("qwen")
        for name, config in configs.items():
            m.case(f"{base}-words-{name}", base, config, f"causal language model: {name}", task=WORDS, static=plugged, with_head=not plugged, keep=name in kept.get(base, ()))
            if name in ("seq_bn", "par_bn", "seq_bn_inv"):
                if not plugged and name != "seq_bn_inv":  # Python undoes invertible adapters before heads of its own only: docs/log.md
                    m.case(f"{base}-words-{name}-static", base, config, f"transformers' own class: {name}", task=WORDS, static=True, with_head=False)
                labelled = name == "seq_bn" and base in ("gpt2", "llama", "mistral-odd", "qwen2-odd", "qwen3-odd")
                m.case(f"{base}-text-{name}", base, config, f"one answer a text: {name}", static=plugged, keep=labelled)
                m.case(f"{base}-tags-{name}", base, config, f"one answer a word: {name}", task=TOKEN, static=plugged, keep=labelled)
                m.case(f"{base}-text-{name}-static", base, config, f"transformers' own class, its score head: {name}", static=True)
        if plugged:
            continue
        heads = {"one": dict(layers=1), "two": dict(layers=2, activation_function="gelu_new"), "two-plain": dict(layers=2, activation_function=None), "three": dict(layers=3, activation_function="relu")}
        for name, head in heads.items():
            m.case(f"{base}-words-head-{name}", base, S(reduction_factor=8), f"causal_lm head: {head}", task=WORDS, head=head, keep=(base, name) == ("llama-odd", "three"))
        two = {"first": S(reduction_factor=4), "second": S(reduction_factor=3)}
        language = {"first": adapters.SeqBnInvConfig(reduction_factor=4), "second": D(reduction_factor=3)}
        for kind, setup in (("stack", Stack("first", "second")), ("average", Average("first", "second", weights=[0.3, 0.7])), ("fuse", Fuse("first", "second"))):
            m.case(f"{base}-words-{kind}", base, two, f"{kind} of two", task=WORDS, setup=setup, keep=(base, kind) in (("gpt2-odd", "fuse"), ("llama-odd", "average")))
            m.case(f"{base}-text-{kind}", base, two, f"{kind} of two", setup=setup)
        m.case(f"{base}-words-stack-inv", base, language, "language and task adapter", task=WORDS, setup=Stack("first", "second"), keep=base == "llama-odd")
        m.case(f"{base}-words-bin", base, configs["double_seq_bn_inv"], "the library's default files", task=WORDS, fmt="bin")
        m.case(f"{base}-text-stack-fuse", base, {**two, "third": S(reduction_factor=5)}, "a fusion on a language adapter", setup=Stack("first", Fuse("second", "third")))
