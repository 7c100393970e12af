"""The cases of make_adapterhub.py: adapters' configs, compositions, heads and files of other releases. `m.case` is its Maker's."""

import json
import re

import adapters
from adapterhub_decoder_cases import decoder_cases
from adapters import BnConfig, DoubleSeqBnConfig, ParBnConfig, SeqBnConfig
from adapters.composition import Average, BatchSplit, Fuse, Parallel, Split, Stack
from adapters.configuration import DynamicAdapterFusionConfig, StaticAdapterFusionConfig
from safetensors.torch import load_file, save_file

TEXT, TOKEN = "text-classification", "token-classification"
NAMES = {0: "negative", 1: "neutral", 2: "positive"}
TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"}


def in_json(file, change):
    def edit(files):
        for f in files.rglob(file):
            content = json.loads(f.read_text())
            change(content)
            f.write_text(json.dumps(content, indent=2, sort_keys=True))
    return edit


def in_tensors(rename, to=lambda v: v):
    def edit(files):
        for f in files.rglob("*.safetensors"):
            save_file({rename(k): to(v) for k, v in load_file(f).items()}, f)
    return edit


def both(*edits):
    return lambda files: [edit(files) for edit in edits]


V1_FIELDS = ["adapter_residual_before_ln", "ln_after", "ln_before", "mh_adapter", "non_linearity", "original_ln_after", "original_ln_before",
             "output_adapter", "reduction_factor", "residual_before_ln"]


def as_version_1(json_, kind, invertible):
    """The config of the first adapter-transformers: few fields, the invertible adapter in a dict of its own."""
    old = {k: json_["config"][k] for k in V1_FIELDS} | {"new_attention_norm": False}
    old["invertible_adapter"] = {"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2} if invertible else None
    json_["config"] = old
    json_["type"] = kind
    json_["config_id"] = "9076f36a74755ac4"
    json_.pop("version")


def old_names(kind):
    def rename(key):
        key = key.replace("attention.output.adapters.", f"attention.output.attention_text_{kind}_adapters.")
        key = key.replace("invertible_adapters.", "invertible_lang_adapters.")
        return re.sub(r"(layer\.\d+\.output)\.adapters\.", rf"\1.layer_text_{kind}_adapters.", key)
    return rename


ACTIVATIONS = ["relu", "gelu", "gelu_10", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "gelu_accurate", "laplace", "leaky_relu",
               "leakyrelu", "linear", "mish", "quick_gelu", "relu2", "relu6", "sigmoid", "silu", "swish", "tanh", "Swish"]


def single_cases(m):
    families = ["bert", "roberta", "distilbert"]
    odd = {"bert": "bert-odd", "roberta": "roberta-odd", "distilbert": "distilbert-odd"}
    presets = {
        "seq_bn": (SeqBnConfig(reduction_factor=4), "Pfeiffer"),
        "double_seq_bn": (DoubleSeqBnConfig(reduction_factor=4), "Houlsby"),
        "par_bn": (ParBnConfig(), "parallel, scaling 4.0"),
        "scaled_par_bn": (ParBnConfig(scaling="learned", reduction_factor=3), "parallel with a learned scaling"),
        "seq_bn_inv": (adapters.SeqBnInvConfig(reduction_factor=5), "Pfeiffer with an invertible adapter"),
        "double_seq_bn_inv": (adapters.DoubleSeqBnInvConfig(reduction_factor=5, inv_adapter_reduction_factor=3), "Houlsby with an invertible adapter"),
        "adapter_plus": (adapters.configuration.AdapterPlusConfig(reduction_factor=6, stochastic_depth=0.0), "channel scaling, no norm after, skip after the norm"),
    }
    for family in families:
        for name, (config, note) in presets.items():
            m.case(f"{family}-{name}", family, config, note, keep=(family, name) == ("distilbert", "adapter_plus"))
            m.case(f"{odd[family]}-{name}", odd[family], config, note + "; odd sizes", keep=(family, name) in (("bert", "double_seq_bn_inv"), ("roberta", "par_bn"), ("distilbert", "double_seq_bn"), ("bert", "scaled_par_bn"), ("distilbert", "seq_bn_inv")))
    for family in ("bert-classes", "distilbert"):
        compacters = {
            "compacter": dict(),
            "compacter-plus": dict(mh_adapter=False, original_ln_before=True),
            "phm-own_rule": dict(shared_phm_rule=False),
            "phm-factorized_rule": dict(factorized_phm_rule=True),
            "phm-own_factorized_rule": dict(shared_phm_rule=False, factorized_phm_rule=True),
            "phm-whole_w": dict(factorized_phm_W=False),
            "phm-shared_w": dict(shared_W_phm=True),
            "phm-rank_2": dict(phm_rank=2, phm_dim=2),
            "phm-no_bias": dict(phm_bias=False),
            "phm-uniform": dict(phm_c_init="uniform", hypercomplex_nonlinearity="phm", phm_init_range=0.01, learn_phm=False),
        }
        for name, kw in compacters.items():
            if name == "phm-shared_w":
                kw = dict(kw, reduction_factor=4)
            m.case(f"{family}-{name}", family, adapters.CompacterConfig(**{"reduction_factor": 2, **kw}), f"Compacter: {kw}",
                   keep=(family, name) in (("bert-classes", "compacter-plus"), ("bert-classes", "phm-own_factorized_rule"), ("bert-classes", "phm-shared_w"), ("bert-classes", "phm-whole_w"), ("distilbert", "phm-no_bias")))
    for i, name in enumerate(ACTIVATIONS):
        base = ["bert-classes", "roberta-odd", "distilbert-odd"][i % 3]
        m.case(f"{base}-act-{name}", base, SeqBnConfig(reduction_factor=2, non_linearity=name), f"activation {name}", keep=True)
    m.case("bert-act-prelu", "bert-classes", SeqBnConfig(reduction_factor=4, non_linearity="prelu"), "activation prelu has a parameter of its own",
           fmt="untied", refused={"error": "prelu", "python": "loads"}, keep=True)


def variant_cases(m):
    S, D, P = SeqBnConfig, DoubleSeqBnConfig, ParBnConfig
    bn = lambda **kw: BnConfig(**{"mh_adapter": True, "output_adapter": True, "reduction_factor": 4, "non_linearity": "relu", **kw})
    variants = {
        "gated": S(reduction_factor=4, use_gating=True),
        "gated-double": D(reduction_factor=4, use_gating=True, scaling="learned"),
        "gated-par": P(reduction_factor=4, use_gating=True),
        "scaled_seq_bn": S(reduction_factor=4, scaling="learned"),
        "channel": S(reduction_factor=4, scaling="channel"),
        "channel-par": P(reduction_factor=4, scaling="channel"),
        "scaling-half": D(reduction_factor=4, scaling=0.5),
        "factor-map": S(reduction_factor={"0": 2, "default": 8}),
        "factor-map-whole": S(reduction_factor={"0": 2, "1": 5, "2": 3}),
        "factor-float": S(reduction_factor=2.5),
        "factor-widens": S(reduction_factor=0.5),
        "factor-huge": S(reduction_factor=1000),
        "leave_out": D(reduction_factor=4, leave_out=[0]),
        "attention-only": bn(output_adapter=False),
        "attention-only-ln_first": bn(output_adapter=False, original_ln_before=True),
        "par-both": P(mh_adapter=True, reduction_factor=4),
        "par-no_norm_after": P(reduction_factor=4, original_ln_after=False),
        "par-ln_before": P(reduction_factor=4, original_ln_before=True),
        "par-post_add": P(reduction_factor=4, residual_before_ln="post_add"),
        "no_norm_after": bn(original_ln_after=False),
        "ln_first-no_norm_after": bn(original_ln_before=True, original_ln_after=False),
        "residual-after_norm": bn(original_ln_before=True, residual_before_ln=False),
        "residual-post_add": bn(original_ln_before=True, residual_before_ln="post_add"),
        "residual-false-no_ln_first": bn(residual_before_ln=False),
        "ln_after": S(reduction_factor=4, ln_after=True),
        "ln_after-residual_first": S(reduction_factor=4, ln_after=True, adapter_residual_before_ln=True),
        "ln_after-par": P(reduction_factor=4, ln_after=True),
        "residual_first-no_ln": bn(adapter_residual_before_ln=True),
        "dropout": S(reduction_factor=4, dropout=0.3),
        "inv-factor": S(reduction_factor=4, inv_adapter="nice", inv_adapter_reduction_factor=5, non_linearity="gelu"),
        "inv-par": P(reduction_factor=4, inv_adapter="nice", inv_adapter_reduction_factor=2),
        "init-mam": S(reduction_factor=4, init_weights="mam_adapter"),
        "init-houlsby": S(reduction_factor=4, init_weights="houlsby", init_weights_seed=3),
        "cross_adapter": D(reduction_factor=4, cross_adapter=True),
    }
    kept = {"gated-double", "gated-par", "channel-par", "factor-map", "factor-widens", "leave_out", "attention-only-ln_first", "par-post_add", "ln_first-no_norm_after",
            "residual-post_add", "residual-false-no_ln_first", "ln_after-residual_first", "par-no_norm_after", "init-houlsby", "cross_adapter"}
    places = {"factor-map-whole": ["bert-odd"], "inv-factor": ["bert-odd", "distilbert"], "cross_adapter": ["bert-classes"]}
    rotation = [("distilbert-odd", "bert"), ("bert-odd", "roberta"), ("roberta-odd", "distilbert"), ("bert-classes", "roberta"), ("distilbert-odd", "bert")]
    for i, (name, config) in enumerate(variants.items()):
        bases = places.get(name, [b for b in rotation[i % 5] if not (name in ("leave_out", "factor-map") and b == "roberta-odd")])
        for j, base in enumerate(bases):
            m.case(f"{base}-{name}", base, config, f"{type(config).__name__}: {name}", keep=name in kept and j == 0)
    both_norms = S(reduction_factor=4, ln_before=True, ln_after=True)
    for base in ("bert-classes", "roberta-odd", "distilbert"):
        m.case(f"{base}-ln_before", base, S(reduction_factor=4, ln_before=True), "a norm in front: its tensors stand twice", fmt="untied", keep=base == "bert-classes")
        m.case(f"{base}-ln_before-par", base, P(reduction_factor=4, ln_before=True), "the same in parallel", fmt="untied")
        m.case(f"{base}-ln_both", base, both_norms, "norms before and after", fmt="untied", keep=base == "roberta-odd")
        m.case(f"{base}-ln_both-gated", base, D(reduction_factor=4, ln_before=True, ln_after=True, use_gating=True, adapter_residual_before_ln=True), "norms before and after, gate",
               fmt="untied")
    m.case("bert-phm-ln_before", "bert-classes", adapters.CompacterConfig(reduction_factor=2, ln_before=True), "Compacter with a norm in front", fmt="untied", keep=True)
    m.case("bert-glow", "bert-classes", S(reduction_factor=4, inv_adapter="glow", inv_adapter_reduction_factor=2), "glow: the library's own forward pass fails",
           refused={"error": "glow", "python": "fails in the forward pass"}, keep=True)
    for name, config in {"lora": "lora", "prefix": adapters.PrefixTuningConfig(prefix_length=3, bottleneck_size=4),
                         "union": adapters.ConfigUnion(adapters.LoRAConfig(r=2), S(reduction_factor=8))}.items():
        m.case(f"bert-architecture-{name}", "bert-classes", config, "another architecture in this format", fmt="untied",
               refused={"error": "architecture", "python": "loads"}, keep=name == "union")


def head_cases(m):
    S = SeqBnConfig(reduction_factor=8)
    heads = {
        "one": dict(layers=1),
        "one-pooler": dict(layers=1, use_pooler=True),
        "two-gelu": dict(layers=2, activation_function="gelu"),
        "two-none": dict(layers=2, activation_function=None),
        "two-leakyrelu": dict(layers=2, activation_function="LeakyReLU"),
        "two-pooler": dict(layers=2, activation_function="relu", use_pooler=True),
        "three": dict(layers=3, activation_function="tanh"),
    }
    for name, kw in heads.items():
        for base in ("bert", "roberta-odd", "distilbert", "bert-classes"):
            if "pooler" in name and base == "distilbert":
                continue
            m.case(f"{base}-head-{name}", base, S, f"head: {kw}", head=kw, labels=NAMES,
                   keep=(base, name) in (("bert-classes", "one-pooler"), ("roberta-odd", "two-none"), ("bert-classes", "three"), ("roberta-odd", "two-pooler"), ("bert-classes", "two-leakyrelu")))
    m.case("distilbert-head-pooler", "distilbert-odd", S, "the library raises KeyError: 'pooled_output'", head=dict(use_pooler=True),
           refused={"error": "pooler", "python": "KeyError: 'pooled_output'"}, keep=True)
    for base in ("bert-classes", "roberta-odd", "distilbert-odd"):
        m.case(f"{base}-regression", base, S, "one output", outputs=1, keep=True)
        m.case(f"{base}-seven", base, S, "seven classes without names", outputs=7, head=dict(layers=1))
        m.case(f"{base}-tagging", base, S, "tagging, one layer", task=TOKEN, outputs=5, labels=TAGS, keep=base == "bert-classes")
        m.case(f"{base}-tagging-two", base, DoubleSeqBnConfig(reduction_factor=8, use_gating=True), "tagging, two layers; gated", task=TOKEN, outputs=5, labels=TAGS,
               head=dict(layers=2, activation_function="gelu"), keep=base == "distilbert-odd")
        m.case(f"{base}-tagging-inv", base, adapters.SeqBnInvConfig(reduction_factor=3), "tagging with an invertible adapter", task=TOKEN, outputs=5, labels=TAGS)
        m.case(f"{base}-multilabel", base, S, "multilabel: no such task here", head=dict(multilabel=True), refused={"error": "multilabel"}, keep=base == "bert-classes")
        for kind, kw in {"static": {}, "converted": dict(convert=True)}.items():
            m.case(f"{base}-{kind}", base, S, f"transformers' own class; {kind}", static=True, labels=NAMES if base != "roberta-odd" else None,
                   keep=(base, kind) in (("bert-classes", "static"), ("roberta-odd", "static"), ("distilbert-odd", "converted")), **kw)
            if kind == "static":
                m.case(f"{base}-{kind}-tagging", base, S, "transformers' own class", task=TOKEN, static=True, outputs=5, keep=base == "roberta-odd")
                m.case(f"{base}-{kind}-regression", base, S, "transformers' own class, one output", static=True, outputs=1)
    for base in ("bert-classes", "distilbert-odd"):
        m.case(f"{base}-headless", base, S, "no head in the files: the base model's own", static=True, with_head=False, labels=NAMES, keep=base == "bert-classes")


def file_cases(m):
    S = SeqBnConfig(reduction_factor=4, non_linearity="gelu")
    config = "adapter_config.json"
    plain = lambda **kw: SeqBnConfig(**{"reduction_factor": 16, **kw})
    edits = {
        "no_version-gelu": (S, in_json(config, lambda j: j.pop("version")), "without version gelu means its tanh form"),
        "no_version-gelu_orig": (S, in_json(config, lambda j: (j.pop("version"), j["config"].update(non_linearity="gelu_orig"))), "without version gelu_orig means gelu"),
        "version-3": (S, in_json(config, lambda j: (j.update(version="3.2.1"), j["config"].update(architecture=None))), "adapter-transformers 3.2.1"),
        "version-2": (S, both(in_json(config, lambda j: (j.update(version="2.3.0"), [j["config"].pop(k) for k in list(j["config"]) if "phm" in k or k in ("dropout", "stochastic_depth", "init_weights_seed", "hypercomplex_nonlinearity")])),
                              in_json("head_config.json", lambda j: (j.update(version="2.3.0", model_class="BertModelWithHeads"), j["config"].pop("dropout_prob"), j["config"].pop("bias")))), "adapter-transformers 2.3.0, BertModelWithHeads"),
        "version-1": (plain(), both(in_tensors(old_names("task")), in_json(config, lambda j: as_version_1(j, "text_task", False))), "the first release: old names of tensors"),
        "version-1-both": (DoubleSeqBnConfig(reduction_factor=4), both(in_tensors(old_names("task")), in_json(config, lambda j: as_version_1(j, "text_task", False))), "the first release: both places"),
        "version-1-lang": (adapters.SeqBnInvConfig(reduction_factor=2), both(in_tensors(old_names("lang")), in_json(config, lambda j: as_version_1(j, "text_lang", True))), "the first release: a language adapter"),
        "version-1-task-unused_inv": (plain(), both(in_tensors(old_names("task")), in_json(config, lambda j: as_version_1(j, "text_task", True))),
                                      "the first release: a task adapter that names an invertible adapter and has none"),
        "config-name": (plain(), in_json(config, lambda j: j.update(config="pfeiffer")), "config is a preset's old name"),
        "config-name-options": (SeqBnConfig(reduction_factor=4), in_json(config, lambda j: j.update(config="seq_bn[reduction_factor=4]")), "config is a preset with options"),
        "config-null": (plain(), in_json(config, lambda j: j.update(config=None)), "config is null: seq_bn"),
        "fields-absent": (BnConfig(mh_adapter=False, output_adapter=True, reduction_factor=4, non_linearity="relu"),
                          in_json(config, lambda j: j.update(config={k: j["config"][k] for k in ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity")})), "only the four fields without defaults"),
        "fields-unknown": (S, in_json(config, lambda j: j["config"].update(attention_type="sent-lvl", new_attention_norm=False, my_note="x")), "fields that no release defines; there they become attributes that nothing reads"),
        "bare-keys": (DoubleSeqBnConfig(reduction_factor=4), in_tensors(lambda k: re.sub(r"^bert\.", "", k)), "keys without the model's prefix"),
        "half": (DoubleSeqBnConfig(reduction_factor=4), in_tensors(lambda k: k, lambda v: v.half()), "float16 in the files"),
        "bfloat16": (DoubleSeqBnConfig(reduction_factor=4), in_tensors(lambda k: k, lambda v: v.bfloat16()), "bfloat16 in the files"),
        "label2id-null": (S, in_json("head_config.json", lambda j: j["config"].update(label2id=None)), "no label names"),
        "label2id-order": (S, in_json("head_config.json", lambda j: j["config"].update(label2id={"b": 2, "c": 0, "a": 1})), "label names in another order than their ids"),
    }
    kept = {"no_version-gelu", "version-3", "version-2", "version-1-both", "version-1-lang", "version-1-task-unused_inv", "config-name", "config-name-options", "config-null", "fields-absent",
            "fields-unknown", "bare-keys", "bfloat16", "label2id-order"}
    for name, (c, edit, note) in edits.items():
        labels = {0: "c", 1: "a", 2: "b"} if name == "label2id-order" else None
        refused = {"fields-unknown": {"error": "my_note", "python": "loads"}, "config-name-options": {"error": "no preset", "python": "loads"}}.get(name)
        m.case(f"bert-{name}", "bert-classes" if name not in ("config-name", "config-null", "version-1", "version-1-task-unused_inv") else "bert", c, note, edit=edit, labels=labels, refused=refused, keep=name in kept)
    for base in ("bert", "distilbert-odd", "roberta"):
        m.case(f"{base}-seq_bn-bin", base, SeqBnConfig(reduction_factor=4), "the library's default files", fmt="bin")
        m.case(f"{base}-double-ln_before-bin", base, DoubleSeqBnConfig(reduction_factor=4, ln_before=True), "two names share one storage", fmt="bin")
        m.case(f"{base}-compacter_like-inv-bin", base, DoubleSeqBnConfig(reduction_factor=4, inv_adapter="nice", inv_adapter_reduction_factor=2, scaling="learned"), "invertible", fmt="bin")
        m.case(f"{base}-tagging-bin", base, SeqBnConfig(reduction_factor=4), "tagging", fmt="bin", task=TOKEN, outputs=5, labels=TAGS)
        m.case(f"{base}-static-bin", base, SeqBnConfig(reduction_factor=4), "transformers' own class", fmt="bin", static=True)
        m.case(f"{base}-fuse-bin", base, three(), "a fusion", setup=Fuse("a", "b", "c"), fmt="bin")


def three(**kw):
    return {"a": SeqBnConfig(reduction_factor=4, **kw), "b": SeqBnConfig(reduction_factor=2, non_linearity="gelu", **kw), "c": SeqBnConfig(reduction_factor=8, **kw)}


def composition_cases(m):
    S, D, P = SeqBnConfig, DoubleSeqBnConfig, ParBnConfig
    abc = three()
    ab = {k: abc[k] for k in "ab"}
    abcd = {**abc, "d": S(reduction_factor=3, non_linearity="tanh")}
    mixed = {"a": D(reduction_factor=4), "b": S(reduction_factor=4), "c": P(reduction_factor=4)}
    gated = {"a": S(reduction_factor=4, use_gating=True), "b": D(reduction_factor=4, scaling="learned"), "c": adapters.CompacterConfig(reduction_factor=2)}
    inv = {"a": adapters.SeqBnInvConfig(reduction_factor=4), "b": S(reduction_factor=4), "c": adapters.SeqBnInvConfig(reduction_factor=3)}
    out = lambda *layers, **kw: S(reduction_factor=4, leave_out=list(layers), **kw)
    # where an adapter is absent in some layers
    last_absent = {"a": S(reduction_factor=4), "b": out(0)}
    middle_absent = {"a": S(reduction_factor=4), "b": out(1), "c": S(reduction_factor=2)}
    two_absent = {"a": S(reduction_factor=4), "b": out(1), "c": out(1, non_linearity="gelu")}
    four_absent = {**abc, "d": out(1)}
    bases = ["bert-classes", "distilbert-odd", "bert-odd", "roberta"]
    cases = {
        "stack": (ab, Stack("a", "b")),
        "stack-three": (abc, Stack("a", "b", "c")),
        "stack-mixed": (mixed, Stack("a", "b", "c")),
        "stack-mixed-par_first": ({"c": mixed["c"], "a": mixed["a"]}, Stack("c", "a")),
        "stack-gated": (gated, Stack("a", "b", "c")) ,
        "stack-inv": (inv, Stack("a", "b", "c")),
        "stack-inv_second": ({"b": inv["b"], "c": inv["c"]}, Stack("b", "c")),
        "stack-absent": (last_absent, Stack("a", "b")),
        "stack-absent_first": ({"b": out(1), "a": S(reduction_factor=4)}, Stack("b", "a")),
        "average": (ab, Average("a", "b")),
        "average-three": (abc, Average("a", "b", "c")),
        "average-weights": (abc, Average("a", "b", "c", weights=[0.2, 0.5, 0.3])),
        "average-mixed": (mixed | {}, Average("b", "c")),
        "average-inv": (inv, Average("a", "b", "c", weights=[0.7, 0.1, 0.2])),
        "average-par": ({"a": P(reduction_factor=4), "b": P(reduction_factor=2, non_linearity="gelu")}, Average("a", "b")),
        "average-absent": (last_absent, Average("a", "b", weights=[0.3, 0.7])),
        "average-absent_two": (two_absent, Average("a", "b", "c", weights=[0.5, 0.3, 0.2])),
        "average-absent_place": ({"a": D(reduction_factor=4), "b": S(reduction_factor=4)}, Average("a", "b")),
        "average-stack": (abc, Average("a", Stack("b", "c"))),
        "average-stack_first": (abc, Average(Stack("a", "b"), "c", weights=[0.6, 0.4])),
        "average-stack-absent": ({"a": S(reduction_factor=4), "b": out(0), "c": S(reduction_factor=2)}, Average("a", Stack("b", "c"))),
        "average-stack_absent": ({"a": S(reduction_factor=4), "b": out(0), "c": out(0), "d": S(reduction_factor=2)}, Average("a", Stack("b", "c"), "d", weights=[0.2, 0.5, 0.3])),
        "stack-average": (abc, Stack("a", Average("b", "c"))),
        "stack-average_first": (abc, Stack(Average("a", "b"), "c")),
        "stack-average-absent": ({"a": S(reduction_factor=4), "b": S(reduction_factor=2), "c": out(0)}, Stack("a", Average("b", "c"))),
        "fuse": (ab, Fuse("a", "b")),
        "fuse-three": (abc, Fuse("a", "b", "c")),
        "fuse-gated": ({"a": gated["a"], "b": S(reduction_factor=4, scaling="learned")}, Fuse("a", "b")),
        "fuse-double": ({"a": D(reduction_factor=4), "b": D(reduction_factor=2)}, Fuse("a", "b")),
        "fuse-par": ({"a": P(reduction_factor=4), "b": P(reduction_factor=2)}, Fuse("a", "b")),
        "fuse-par_seq": ({"a": P(reduction_factor=4), "b": S(reduction_factor=2)}, Fuse("a", "b")),
        "fuse-seq_par": ({"a": S(reduction_factor=4), "b": P(reduction_factor=2)}, Fuse("a", "b")),
        "fuse-inv": (inv, Fuse("a", "b", "c")),
        "fuse-absent_first": ({"b": out(0), "a": S(reduction_factor=4)}, Fuse("b", "a")),
        "fuse-absent_middle": (middle_absent, Fuse("a", "b", "c")),
        "fuse-absent_all": ({"a": out(0), "b": out(0)}, Fuse("a", "b")),
        "fuse-stack": (abc, Fuse("a", Stack("b", "c"))),
        "fuse-stack_first": (abc, Fuse(Stack("a", "b"), "c")),
        "stack-fuse": (abc, Stack("a", Fuse("b", "c"))),
        "stack-fuse_first": (abc, Stack(Fuse("a", "b"), "c")),
        "stack-fuse-absent": ({"b": S(reduction_factor=4), "c": S(reduction_factor=2), "a": out(1)}, Stack(Fuse("b", "c"), "a")),
        "stack-fuse-stack": (abcd, Stack("a", Fuse("b", Stack("c", "d")))),
        "stack-average-stack": (abcd, Stack("a", Average("b", Stack("c", "d")))),
    }
    kept = {"stack-mixed": 0, "stack-inv": 1, "stack-absent": 0, "average-weights": 1, "average-absent": 0, "average-absent_two": 2, "average-stack_first": 0, "stack-average-absent": 0,
            "fuse-three": 1, "fuse-par_seq": 1, "fuse-absent_middle": 0, "stack-fuse-stack": 0, "average-stack_absent": 0}
    for name, (configs, setup) in cases.items():
        for i, base in enumerate(bases):
            if any(c.get("phm_layer") for c in configs.values()) and base != "bert-classes":
                continue
            if i == 2 and not re.search(r"absent|inv|three", name) or i == 3 and "absent" in name:
                continue
            m.case(f"{base}-{name}", base, configs, f"{setup}", setup=setup, keep=kept.get(name) == i)
    for base in ("bert", "roberta-odd"):
        fusions_ = {
            "static": StaticAdapterFusionConfig(),
            "query_before_ln": DynamicAdapterFusionConfig(query_before_ln=True),
            "residual_before": DynamicAdapterFusionConfig(residual_before=True),
            "value_after_softmax": DynamicAdapterFusionConfig(value_before_softmax=False),
            "no_query": DynamicAdapterFusionConfig(query=False),
            "no_key": DynamicAdapterFusionConfig(key=False),
            "only_value": DynamicAdapterFusionConfig(key=False, query=False),
            "only_query": StaticAdapterFusionConfig(key=False, residual_before=True, query_before_ln=True),
            "nothing": StaticAdapterFusionConfig(key=False, query=False),
            "dropout": DynamicAdapterFusionConfig(dropout_prob=0.2, regularization=False, value_initialized=False),
        }
        for name, config in fusions_.items():
            m.case(f"{base}-fuse-{name}", base, ab, f"fusion: {name}", setup=Fuse("a", "b"), fusion=config,
                   keep=(base, name) in (("roberta-odd", "static"), ("roberta-odd", "residual_before"), ("roberta-odd", "nothing"), ("roberta-odd", "value_after_softmax"), ("roberta-odd", "query_before_ln")))
    m.case("bert-fuse-temperature", "bert-classes", ab, "the softmax's temperature sinks with every forward pass and is not saved", setup=Fuse("a", "b"),
           fusion=DynamicAdapterFusionConfig(temperature=True), refused={"error": "temperature", "python": "depends on how many passes came before"})
    setup_file = "adapter_setup.json"
    unnormal = in_json(setup_file, lambda j: j["adapter_setup"]["kwargs"].update(weights=[2.0, 6.0]))
    m.case("bert-average-unnormalised", "bert-classes", ab, "weights that do not add up to 1: divided by their sum when they are loaded", setup=Average("a", "b", weights=[0.5, 0.5]), edit=unnormal, keep=True)
    m.case("bert-average-no_weights", "bert-classes", ab, "no weights in the file", setup=Average("a", "b"), edit=in_json(setup_file, lambda j: j["adapter_setup"].pop("kwargs")))
    m.case("bert-average-negative", "bert-classes", ab, "a negative weight", setup=Average("a", "b", weights=[1.5, -0.5]))
    m.case("distilbert-fuse-tagging", "distilbert-odd", ab, "a fusion for tagging", setup=Fuse("a", "b"), task=TOKEN, outputs=5, labels=TAGS, keep=True)
    m.case("distilbert-stack-single", "distilbert-odd", {"a": S(reduction_factor=2)}, "a setup of one adapter", setup=Stack("a"), keep=True)
    for name, setup, why in [("parallel", Parallel("a", "b"), "one output for each adapter"), ("split", Split("a", "b", splits=[3, 3]), "texts of one length only"),
                             ("batch_split", BatchSplit("a", "b", batch_sizes=[1, 1]), "batches of one size only"),
                             ("stack-parallel", Stack("a", Parallel("b", "c")), "one output for each adapter")]:
        m.case(f"bert-{name}", "bert-classes", abc if "stack" in name else ab, why, setup=setup, refused={"error": "composition", "python": "loads"}, keep=name == "split")
    for name, (configs, setup) in {
        "average-absent_first": ({"b": out(0), "a": S(reduction_factor=4)}, Average("b", "a")),
        "average-absent_some": (middle_absent, Average("a", "b", "c")),
        "fuse-absent_last": (last_absent, Fuse("a", "b")),
    }.items():
        m.case(f"bert-{name}", "bert-classes", configs, "fails in the library's forward pass", setup=setup, refused={"error": "layer.[01]", "python": "KeyError, or RuntimeError for shapes"}, keep=name == "average-absent_some")


ALL = (single_cases, variant_cases, head_cases, file_cases, composition_cases, decoder_cases)
