"""
A threshold for what errors cost
================================

A missed defect and a false alarm do not cost the same. With some labelled defects, the threshold
can be chosen for the lowest cost, by cross-validation. This works with any outlier detector of
scikit-learn; the one here reconstructs images from principal components.
"""

import matplotlib.pyplot as plt
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold

from sklearn_ncae import ResidualDetector
from sklearn_ncae.baselines import PCAReconstructor
from sklearn_ncae.datasets import make_castings
from sklearn_ncae.inspection import ThresholdDisplay
from sklearn_ncae.model_selection import TunedThresholdDetector

known = make_castings(300, 60, image_size=48, random_state=0)
new = make_castings(300, 60, image_size=48, random_state=1)
detector = ResidualDetector(
    PCAReconstructor(32, random_state=0), statistic="abs_max", contamination=0.05
)

# %%
# Four ways to say what is wanted
# -------------------------------
# The detector of each fold is trained on its good images alone; the defects only serve to
# choose the threshold. New castings show what comes of it.

wanted = {
    "best F1": {"scoring": "f1"},
    "a miss costs 100, an alarm 10": {"costs": {"missed_defect": 100, "false_alarm": 10}},
    "at most 5 % false alarms": {"max_false_alarm_rate": 0.05},
    "at least 80 % found": {"min_recall": 0.8},
}
print(f"{'':30}threshold  false alarms  defects found")
for name, objective in wanted.items():
    tuned = TunedThresholdDetector(
        detector, cv=StratifiedKFold(5, shuffle=True, random_state=0), **objective
    ).fit(known.images, known.target)
    table = confusion_matrix(new.target, tuned.predict(new.images), labels=[1, -1])
    rates = table[:, 1] / table.sum(axis=1)
    print(f"{name:30}{tuned.best_threshold_:9.2f}  {rates[0]:12.1%}  {rates[1]:13.1%}")

# %%
# The two targets are about new images, and the rates above are of new castings, which had no part
# in the choice. A single draw of a few hundred castings may miss a target by some percent.
#
# What each threshold costs
# -------------------------
# The curves are those of the new castings, and the line is the threshold that was chosen from the
# known ones. In production defects are rarer than in such a collection; ``"defect_rate"`` among
# the costs says how rare.

costs = {"missed_defect": 100, "false_alarm": 10}
tuned = TunedThresholdDetector(
    detector,
    costs=costs,
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
).fit(known.images, known.target)
ThresholdDisplay.from_estimator(
    tuned,
    new.images,
    new.target,
    response_method="score_samples",
    costs=costs,
)
plt.show()

# %%
rare = TunedThresholdDetector(
    detector,
    costs=costs | {"defect_rate": 0.01},
    cv=StratifiedKFold(5, shuffle=True, random_state=0),
).fit(known.images, known.target)
alarms = (rare.predict(new.images[new.target == 1]) == -1).mean()
found = (rare.predict(new.images[new.target == -1]) == -1).mean()
print(f"with one defect in a hundred: {alarms:.1%} false alarms, {found:.1%} of the defects found")
