import copy
import importlib.util
import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
from PIL import Image
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_ncae import NCAEDetector, NCAEReconstructor, ResidualDetector, persistence
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.calibration import promised_rate
from sklearn_ncae.defects import draw_defects
from sklearn_ncae.images import ImageLoader
from sklearn_ncae.model_selection import TunedThresholdDetector
from sklearn_ncae.persistence import ModelFileError
from sklearn_ncae.texture import TextureDetector

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "benchmarks" / "fuzz_persistence.py"
TINY = {"filters": (2, 3), "epochs": 1, "random_state": 0}
DETECTORS = {
    "default": NCAEDetector(**TINY, early_stopping=True, false_alarm_rate=0.2),
    "reconstruct": NCAEDetector(
        **TINY, training="reconstruct", bottleneck="dense", contamination=0.1
    ),
    "residual": ResidualDetector(
        NCAEReconstructor(**TINY, convolution="standard"), contamination=0.1, statistic="all"
    ),
    "texture": TextureDetector(),
}


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_persistence", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fitted(good_images, eagerly):
    with eagerly():
        return {name: detector.fit(good_images) for name, detector in DETECTORS.items()}


@pytest.fixture
def detector(fitted):
    return fitted["reconstruct"]


@pytest.fixture
def saved(detector, tmp_path):
    path = tmp_path / "detector.ncae"
    persistence.save(detector, path)
    return path


def results(detector, X):
    methods = ["score_samples", "predict", "p_values", "reconstruct", "residual", "defect_map"]
    methods += ["texture_map", "anomaly_map"]
    return {name: getattr(detector, name)(X) for name in methods if hasattr(detector, name)}


@pytest.mark.parametrize("name", DETECTORS)
def test_comes_back_the_same(name, fitted, labelled_images, tmp_path):
    X, detector = labelled_images[0], fitted[name]
    persistence.save(detector, tmp_path / "d.ncae")
    loaded = persistence.load(str(tmp_path / "d.ncae"))
    assert repr(loaded.get_params()) == repr(detector.get_params())
    assert vars(loaded).keys() == vars(detector).keys()
    expected, found = results(detector, X), results(loaded, X)
    for method in expected:
        np.testing.assert_array_equal(found[method], expected[method], strict=True)
    if not hasattr(detector, "reconstructor_"):
        return
    persistence.save(detector.reconstructor_, tmp_path / "r.ncae")
    reconstructions = persistence.load(tmp_path / "r.ncae").predict(X)
    np.testing.assert_array_equal(reconstructions, expected["reconstruct"])


def test_tables_of_colour_images(tmp_path, eagerly):
    X = np.random.default_rng(0).normal(size=(30, 8 * 6 * 3))
    table = pd.DataFrame(X).add_prefix("pixel ")
    detector = NCAEDetector(
        **TINY, image_shape=[np.int64(8), 6, 3], statistic=["mse", "mean"]
    ).set_params(filters=np.array([2, 3]), contamination=np.float32(0.25))
    with eagerly():
        detector.fit(table)
    persistence.save(detector, tmp_path / "d.ncae")
    loaded = persistence.load(tmp_path / "d.ncae")
    assert list(loaded.feature_names_in_) == list(table.columns)
    np.testing.assert_array_equal(loaded.score_samples(table), detector.score_samples(table))
    with pytest.raises(ValueError, match="feature names"):
        loaded.score_samples(table.add_prefix("x"))
    with zipfile.ZipFile(tmp_path / "d.ncae") as archive:
        place = attributes(json.loads(archive.read("model.json")))["feature_names_in_"]["names"]
    fewer = npy(np.array(table.columns[1:], dtype=str))
    rewrite(tmp_path / "d.ncae", members={f"arrays/{place}.npy": fewer})
    with pytest.raises(ModelFileError, match="image_shape_ and feature_names_in_"):
        persistence.load(tmp_path / "d.ncae")


def test_scores_bitwise_the_same_in_a_fresh_process(detector, saved, labelled_images):
    np.save(saved.with_name("X.npy"), labelled_images[0])
    script = (
        "import sys, numpy as np\n"
        "from sklearn_ncae import persistence\n"
        "persistence.info('detector.ncae')\n"
        "assert 'keras' not in sys.modules\n"
        "detector = persistence.load('detector.ncae')\n"
        "np.save('scores.npy', detector.score_samples(np.load('X.npy')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=saved.parent, env=environment)
    scores = np.load(saved.with_name("scores.npy"))
    np.testing.assert_array_equal(scores, detector.score_samples(labelled_images[0]))


@pytest.mark.parametrize("name", ["default", "reconstruct"])
def test_skops_brings_back_the_same_with_the_types_of_the_page(name, fitted, labelled_images):
    X, detector = labelled_images[0], fitted[name]
    page = (HERE.parent / "docs" / "persistence.md").read_text(encoding="utf-8")
    trusted = re.findall(r'^    "(sklearn_ncae\.\S+)",$', page, re.MULTILINE)
    pipeline = make_pipeline(StandardScaler(), detector)  # scikit-learn's own types are known
    data = skops.io.dumps(pipeline)
    needed = skops.io.get_untrusted_types(data=data)
    without_texture = [kind for kind in trusted if "texture" not in kind]
    assert sorted(needed) == sorted(trusted if name == "default" else without_texture)
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException):
        skops.io.loads(data, trusted=trusted[1:])
    loaded = skops.io.loads(data, trusted=trusted)[-1]
    expected, found = results(detector, X), results(loaded, X)
    for method in expected:
        np.testing.assert_array_equal(found[method], expected[method], strict=True)


def test_a_loaded_detector_goes_on_training(saved, good_images, eagerly):
    loaded = persistence.load(saved).set_params(warm_start=True)
    with eagerly():
        loaded.fit(good_images)
    assert len(loaded.reconstructor_.history_["loss"]) == 2
    persistence.save(loaded, saved)
    assert len(persistence.load(saved).reconstructor_.history_["loss"]) == 2


def test_info(detector, saved):
    summary = persistence.info(saved)
    assert summary["estimator"] == "NCAEDetector"
    assert summary["image_shape"] == [16, 16, 1]
    assert summary["n_samples_fit"] == 40
    assert summary["offset"] == detector.offset_
    assert summary["left_out"] == []
    assert summary["versions"]["keras"] == keras.__version__
    assert summary["n_calibration"] is None  # its threshold is that of a contamination
    assert json.dumps(summary)


def test_info_says_what_the_held_out_images_promise(fitted, tmp_path):
    persistence.save(fitted["default"], tmp_path / "d.ncae")
    summary = persistence.info(tmp_path / "d.ncae")
    assert summary["n_calibration"] == 8
    assert summary["false_alarm_rate"] == 1 / 9  # the detector was told 0.2


@pytest.mark.parametrize("response_method", ["score_samples", "decision_function"])
def test_of_a_tuned_threshold_the_detector_is_saved(
    response_method, fitted, labelled_images, tmp_path
):
    X, y = labelled_images
    detector = fitted["texture"]
    tuned = TunedThresholdDetector(
        detector, cv="prefit", scoring="f1", response_method=response_method
    ).fit(X, y)
    before = detector.offset_
    persistence.save(tuned, tmp_path / "tuned.ncae")
    loaded = persistence.load(tmp_path / "tuned.ncae")
    assert isinstance(loaded, TextureDetector)
    assert before == detector.offset_ != loaded.offset_
    np.testing.assert_array_equal(loaded.predict(X), tuned.predict(X))
    scores = detector.calibration_scores_
    assert loaded.false_alarm_rate_ == promised_rate(scores, loaded.offset_)
    assert persistence.info(tmp_path / "tuned.ncae")["offset"] == loaded.offset_


def test_of_a_tuned_pipeline_that_reads_files_the_detector_is_saved(good_images, tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(len(good_images))]
    for path, image in zip(paths, good_images, strict=True):
        Image.fromarray(image).save(path)
    reading = make_pipeline(ImageLoader(), TextureDetector(contamination=0.1))
    tuned = TunedThresholdDetector(reading, max_false_alarm_rate=0.2).fit(paths)
    persistence.save(tuned, tmp_path / "tuned.ncae")
    loaded = persistence.load(tmp_path / "tuned.ncae")
    assert loaded.offset_ == tuned.offset_
    np.testing.assert_array_equal(loaded.predict(good_images), tuned.predict(paths))
    scaling = make_pipeline(FunctionTransformer(), TextureDetector(contamination=0.1))
    tuned = TunedThresholdDetector(scaling, max_false_alarm_rate=0.2).fit(good_images)
    with pytest.raises(TypeError, match="got Pipeline"):
        persistence.save(tuned, tmp_path / "tuned.ncae")


def test_of_a_tuned_threshold_around_another_detector_nothing_is_saved(good_images, tmp_path):
    X = good_images.reshape(len(good_images), -1)
    tuned = TunedThresholdDetector(IsolationForest(random_state=0), max_false_alarm_rate=0.2)
    with pytest.raises(NotFittedError):
        persistence.save(tuned, tmp_path / "tuned.ncae")
    with pytest.raises(TypeError, match="got IsolationForest"):
        persistence.save(tuned.fit(X), tmp_path / "tuned.ncae")


def test_what_only_training_needs_is_left_out(good_images, tmp_path, eagerly):
    detector = NCAEDetector(
        draw_defects=lambda images, random_state: draw_defects(images, random_state=random_state),
        callbacks=[keras.callbacks.LambdaCallback()],
        loss=keras.losses.MeanSquaredError(),
        optimizer=keras.optimizers.SGD(),
        contamination=0.1,
        **{**TINY, "random_state": np.random.RandomState(0)},
    )
    with eagerly():
        detector.fit(good_images)
    detector.set_params(
        checkpoint_path=tmp_path / "state"
    )  # text to a model file, so that it stays
    left_out = ["callbacks", "draw_defects", "loss", "optimizer", "random_state"]
    with pytest.warns(UserWarning, match=", ".join(left_out)):
        persistence.save(detector, tmp_path / "d.ncae")
    loaded = persistence.load(tmp_path / "d.ncae")
    np.testing.assert_array_equal(
        loaded.score_samples(good_images), detector.score_samples(good_images)
    )
    assert persistence.info(tmp_path / "d.ncae")["left_out"] == left_out
    assert loaded.optimizer is None
    assert loaded.checkpoint_path == str(tmp_path / "state")


class Own(NCAEDetector):
    pass


def test_a_request_for_metadata_does_not_hinder_saving(good_images, tmp_path):
    with sklearn.config_context(enable_metadata_routing=True):
        detector = TextureDetector().set_fit_request(groups=True).fit(good_images)
    persistence.save(detector, tmp_path / "texture.ncae")
    loaded = persistence.load(tmp_path / "texture.ncae")
    np.testing.assert_array_equal(
        loaded.score_samples(good_images), detector.score_samples(good_images)
    )


def test_what_a_model_file_cannot_hold(detector, good_images, tmp_path):
    path = tmp_path / "d.ncae"
    with pytest.raises(NotFittedError):
        persistence.save(NCAEDetector(), path)
    for estimator in (Own(), PCAReconstructor(), detector.reconstructor_._scale, None):
        with pytest.raises(TypeError, match="A model file holds"):
            persistence.save(estimator, path)
    pca = ResidualDetector(PCAReconstructor(2), contamination=0.1).fit(good_images)
    with pytest.raises(TypeError, match="cannot hold reconstructor of ResidualDetector"):
        persistence.save(pca, path)
    noted = persistence_copy(detector, tmp_path)
    noted.note = "line 4"
    with pytest.raises(TypeError, match="no place for the attribute note of NCAEDetector"):
        persistence.save(noted, path)
    broken = persistence_copy(detector, tmp_path)
    broken.offset_ = -np.inf
    with pytest.raises(ValueError, match="offset_ of its NCAEDetector cannot be -inf"):
        persistence.save(broken, path)
    long = persistence_copy(detector, tmp_path)
    long.reconstructor_.history_ = {"loss": [0.123456789] * 400_000}
    with pytest.raises(ValueError, match="as JSON"):
        persistence.save(long, path)
    assert os.listdir(tmp_path) == ["copy.ncae"]


def persistence_copy(detector, folder):
    persistence.save(detector, folder / "copy.ncae")
    return persistence.load(folder / "copy.ncae")


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace", "zipfile.ZipFile.writestr"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_save_leaves_the_old_file(fails, error, detector, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(fails, fail)
    with pytest.raises(type(error)):
        persistence.save(detector, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_disk_that_fills_up(detector, saved):
    resource = pytest.importorskip("resource", reason="limits of a POSIX process")
    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            persistence.save(detector, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_link_stays_a_link(detector, saved):
    link = saved.with_name("current.ncae")
    link.symlink_to(saved.name)
    saved.write_bytes(b"old")
    persistence.save(detector, link)
    assert link.is_symlink()
    assert persistence.info(saved)["estimator"] == "NCAEDetector"


def test_faults_of_the_disk_stay_themselves(detector, tmp_path):
    with pytest.raises(FileNotFoundError):
        persistence.load(tmp_path / "none.ncae")
    with pytest.raises(FileNotFoundError):
        persistence.info(tmp_path / "none.ncae")
    with pytest.raises(FileNotFoundError):
        persistence.save(detector, tmp_path / "none" / "d.ncae")
    with pytest.raises(IsADirectoryError):
        persistence.load(tmp_path)


def rewrite(path, change=lambda document: None, members=None, **options):
    """Change the JSON of a model file, or its members, with all checksums right."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(content["model.json"])
    change(document)
    content |= {"model.json": json.dumps(document).encode(), **(members or {})}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def attributes(document):
    return document["model"]["object"]["attributes"]


def inner(document):
    return attributes(document)["reconstructor_"]["object"]["attributes"]


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


HOSTILE_TEXTURES = {
    "named and not there": (lambda d: attributes(d).update(_texture=None), "_names and _texture"),
    "of another class": (
        lambda d: attributes(d).update(_texture=inner(d)["_scale"]),
        "_texture of its NCAEDetector cannot be",
    ),
    "mean of another size": (
        lambda d: texture(d).update(mean=attributes(d)["_center"]),
        "mean of its TextureModel cannot be",
    ),
    "of other images": (
        lambda d: texture(d).update(components=inner(d)["weights_"][0]),
        "contradicts itself in mean and components",
    ),
    "blocks that fill the memory": (
        lambda d: inner(d)["_network"]["dict"].update(block_size=10**9),
        "_network of its NCAEReconstructor cannot be",
    ),
}


def texture(document):
    return attributes(document)["_texture"]["object"]["attributes"]


@pytest.mark.parametrize(("change", "message"), HOSTILE_TEXTURES.values(), ids=HOSTILE_TEXTURES)
def test_refuses_hostile_textures(change, message, fitted, tmp_path):
    path = tmp_path / "d.ncae"
    persistence.save(fitted["default"], path)
    rewrite(path, change)
    with pytest.raises(ModelFileError, match=message):
        persistence.load(path)


# An attribute of a detector, or of its texture, and what becomes of its array.
CONTRADICTIONS = {
    "a centre too few": ("default", "_center", lambda a: a[:-1]),
    "a reach too many": ("default", "_reach", lambda a: np.append(a, 1.0)),
    "a reach of zero": ("default", "_reach", lambda a: 0 * a),
    "calibration scores of nan": ("texture", "calibration_scores_", lambda a: np.nan * a),
    "a deviation of zero": ("texture", "deviation", lambda a: 0 * a),
    "a deviation of another size": ("texture", "deviation", lambda a: a[:, :-1]),
    "components of another size": ("texture", "components", lambda a: a[..., :-1]),
    "texture of no channel": ("texture", "mean", lambda a: a[:-1]),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_refuses_arrays_that_contradict_each_other(name, fitted, tmp_path):
    kind, attribute, change = CONTRADICTIONS[name]
    path = tmp_path / "d.ncae"
    persistence.save(fitted[kind], path)
    with zipfile.ZipFile(path) as archive:
        values = attributes(json.loads(archive.read("model.json")))
        if attribute not in values:
            values = values["texture_"]["object"]["attributes"]
        member = f"arrays/{values[attribute]['array']}.npy"
        array = np.load(io.BytesIO(archive.read(member)))
    rewrite(path, members={member: npy(change(array))})
    with pytest.raises(ModelFileError, match=r"contradicts itself in|cannot be"):
        persistence.load(path)


HOSTILE_TEXTURE_DETECTORS = {
    "a scale for all images": lambda values: values["_scale"]["object"]["attributes"].update(
        per_image=False
    ),
    "a span of zero": lambda values: values["_scale"]["object"]["attributes"].update(span=0.0),
    "a layout of other images": lambda values: values.update(_layout={"tuple": [4, 4]}),
    "images of another size": lambda values: values.update(image_shape_={"tuple": [99, 99, 1]}),
}


@pytest.mark.parametrize("name", HOSTILE_TEXTURE_DETECTORS)
def test_refuses_hostile_texture_detectors(name, fitted, tmp_path):
    path = tmp_path / "d.ncae"
    persistence.save(fitted["texture"], path)
    rewrite(path, lambda document: HOSTILE_TEXTURE_DETECTORS[name](attributes(document)))
    with pytest.raises(ModelFileError, match=r"contradicts itself in|cannot be"):
        persistence.load(path)


HOSTILE_DOCUMENTS = {
    "newer format": (lambda d: d.update(format_version=8), "format 8.*Upgrade"),
    "older format": (lambda d: d.update(format_version=6), r"format 6.*Train and save again"),
    "other format": (lambda d: d.update(format="onnx"), "not the file of a sklearn-ncae model"),
    "version of another type": (lambda d: d.update(format_version=True), "not the file of"),
    "version before the first": (lambda d: d.update(format_version=0), "not the file of"),
    "no model": (lambda d: d.pop("model"), "no fitted detector"),
    "unknown class": (lambda d: d["model"]["object"].update({"class": "Popen"}), "no known kind"),
    "deep nesting": (lambda d: d.update(model=json.loads("[" * 50 + "]" * 50)), "nested deeper"),
    "unknown parameter": (
        lambda d: d["model"]["object"]["parameters"].update(gamma=1),
        "parameters of its NCAEDetector are not valid.*gamma",
    ),
    "bad parameter": (
        lambda d: d["model"]["object"]["parameters"].update(epochs=-1),
        "parameters of its NCAEDetector are not valid.*epochs",
    ),
    "unfitted": (lambda d: attributes(d).clear(), "no fitted detector"),
    "missing attribute": (lambda d: attributes(d).pop("offset_"), "lacks offset_"),
    "unknown attribute": (lambda d: attributes(d).update(predict=1), "has a predict"),
    "infinite offset": (lambda d: attributes(d).update(offset_={"float": "inf"}), "offset_"),
    "offset of text": (lambda d: attributes(d).update(offset_="0"), "offset_ of its NCAEDetector"),
    "enormous offset": (lambda d: attributes(d).update(offset_=10**400), "OverflowError"),
    "scale of no float": (
        lambda d: inner(d)["_scale"]["object"]["attributes"].update(low=10**400),
        "",
    ),
    "unfitted network": (
        lambda d: attributes(d)["reconstructor_"]["object"]["attributes"].clear(),
        "values cannot be those of a detector",
    ),
    "images of an array": (
        lambda d: d["model"]["object"]["parameters"].update(image_shape=inner(d)["weights_"][0]),
        "",
    ),
    "another way to compute": (
        lambda d: inner(d)["_network"]["dict"].update(dtype_policy="mixed_bfloat16"),
        "_network of its NCAEReconstructor cannot be",
    ),
    "unknown statistic": (lambda d: attributes(d).update(_names=["rm"]), "_names"),
    "a statistic twice": (lambda d: attributes(d).update(_names=["mse", "mse"]), "_names"),
    "statistics of a network of another kind": (
        lambda d: attributes(d).update(_names=["defect_peak"]),
        "_names and training",
    ),
    "image_shape of other images": (
        lambda d: d["model"]["object"]["parameters"].update(image_shape={"tuple": [8, 32]}),
        "contradicts itself in image_shape and image_shape_",
    ),
    "another number of features": (
        lambda d: attributes(d).update(n_features_in_=255),
        "contradicts itself in image_shape_ and n_features_in_",
    ),
    "other size": (
        lambda d: attributes(d).update(image_shape_={"tuple": [8, 32, 1]}),
        "contradicts itself in image_shape_",
    ),
    "enormous network": (
        lambda d: inner(d)["_network"]["dict"].update(filters={"tuple": [10**6, 10**6]}),
        "weights_ and filters",
    ),
    "enormous code": (
        lambda d: inner(d)["_network"]["dict"].update(bottleneck="dense", bottleneck_size=10**9),
        "weights_ and filters",
    ),
    "other network": (
        lambda d: inner(d)["_network"]["dict"].update(training="repair"),
        "weights are not those of its network",
    ),
    "unknown network": (
        lambda d: inner(d)["_network"]["dict"].update(convolution="none"),
        "weights are not those of its network",
    ),
    "an array twice": (
        lambda d: inner(d)["weights_"].__setitem__(1, {"array": 0}),
        "asked for twice",
    ),
    "an array too many": (lambda d: inner(d)["weights_"].pop(), "(many|not those)"),
    "a detector in itself": (
        lambda d: attributes(d).update(reconstructor_=copy.deepcopy(d["model"])),
        "(reconstructor_|asked for twice)",
    ),
}
HOSTILE_MEMBERS = {
    "path traversal": ({"../evil": b"x"}, {}, "members are not those"),
    "an absolute path": ({"/etc/evil": b"x"}, {}, "members are not those"),
    "zip bomb": ({"arrays/14.npy": bytes(10**7)}, {"compression": 8}, "is compressed"),
    "document too long": ({"model.json": b" " * 5_000_000}, {}, "larger than"),
    "document of another type": ({"model.json": b"[]"}, {}, "not a JSON object"),
    "document nested without end": ({"model.json": b"[" * 10**6}, {}, "model.json is damaged"),
    "no document": ({"model.json": None}, {}, "members are not those"),
    "directory too long": ({f"{i:0200}": b"" for i in range(5000)}, {}, "directory has"),
    "a pickle": ({"arrays/0.npy": b"cos\nsystem\n(S'true'\ntR."}, {}, "is not an array"),
    "objects": ({"arrays/0.npy": npy(np.array([{}]))}, {}, "has the type object"),
    "columns first": (
        {"arrays/0.npy": npy(np.ones((8, 2), np.float32, order="F"))},
        {},
        "another order than C",
    ),
    "no values": ({"arrays/0.npy": npy(np.ones((0, 2), np.float32))}, {}, "not an array of"),
    "a shape beyond the data": (
        {"arrays/0.npy": npy(np.zeros(10)).replace(b"(10,)", b"(9999999999,)")[:-6]},
        {},
        "not an array",
    ),
    "weights of nan": ({"arrays/0.npy": npy(np.full((1, 1, 8, 2), np.nan))}, {}, "weights_"),
    "weights of another shape": (
        {"arrays/0.npy": npy(np.ones((1, 1, 16, 1), np.float32))},
        {},
        "weights are not those",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_DOCUMENTS)
def test_refuses_documents(name, saved):
    change, message = HOSTILE_DOCUMENTS[name]
    rewrite(saved, change)
    with pytest.raises(ModelFileError, match=f"(?s)Cannot load '.*detector.ncae'.*{message}"):
        persistence.load(saved)


@pytest.mark.parametrize("name", HOSTILE_MEMBERS)
def test_refuses_members(name, saved):
    members, options, message = HOSTILE_MEMBERS[name]
    rewrite(saved, members=members, **options)
    with pytest.raises(ModelFileError, match=message):
        persistence.load(saved)
    assert os.listdir(saved.parent) == [saved.name]


def test_refuses_members_that_begin_before_the_file(saved):
    data = bytearray(saved.read_bytes())
    (place,) = struct.unpack_from("<L", data, len(data) - 6)  # of the directory
    struct.pack_into("<L", data, len(data) - 6, place + 1000)
    saved.write_bytes(data)
    for read in (persistence.load, persistence.info):
        with pytest.raises(ModelFileError, match="damaged"):
            read(saved)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip file" * 10, b"\x80\x04."])
def test_refuses_what_is_no_zip_file(data, saved):
    for content in (data, saved.read_bytes()[:-1], saved.read_bytes() + b"x"):
        saved.write_bytes(content)
        for read in (persistence.load, persistence.info):
            with pytest.raises(ModelFileError, match="truncated, or no model file"):
                read(saved)


def test_refuses_a_file_without_summary(saved):
    rewrite(saved, lambda document: document.update(summary=3))
    with pytest.raises(ModelFileError, match="summary is missing"):
        persistence.info(saved)


def test_one_flipped_bit_is_found(detector, saved, good_images):
    data = saved.read_bytes()
    scores = detector.score_samples(good_images[:2])
    refused = 0
    for place in range(0, len(data), 97):
        saved.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            loaded = persistence.load(saved)
        except ModelFileError:
            refused += 1
        else:  # the date of a member, say
            np.testing.assert_array_equal(loaded.score_samples(good_images[:2]), scores)
    assert refused > 0.8 * len(data) / 97


def test_damaged_files_are_refused_or_score(fuzz, fitted, good_images, tmp_path):
    path = tmp_path / "damaged.ncae"
    originals = []
    for detector in fitted.values():
        persistence.save(detector, path)
        originals.append(path.read_bytes())
    answers = []
    for seed in range(300):
        _, damaged = fuzz.damage(originals[seed // 10 % len(originals)], seed)
        path.write_bytes(damaged)
        answers.append(fuzz.answer(path, good_images[:2]))
    assert set(answers) == {"refused", "loaded"}
    assert answers.count("refused") > 200


STORED = sorted((HERE / "data").glob("*.ncae"))


def test_files_of_each_format_are_stored():
    names = [f"format_7_{kind}.ncae" for kind in ("color", "default", "texture")]
    assert [path.name for path in STORED] == names


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_reads_stored_files(path):
    expected = json.loads(path.with_suffix(".json").read_text())
    shape = (5, *expected["shape"])
    X = np.random.RandomState(1).randint(0, 256, shape, dtype=np.uint8)
    detector = persistence.load(path)
    # Another version of a dependency, or another processor, may sum in another order.
    np.testing.assert_allclose(detector.score_samples(X), expected["scores"], rtol=1e-4)
    assert detector.offset_ == expected["offset"]
    np.testing.assert_array_equal(detector.p_values(X), expected["p_values"])
