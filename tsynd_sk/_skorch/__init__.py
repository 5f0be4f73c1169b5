"""All code that uses skorch's private parts."""

from tsynd_sk._skorch._net_checks import NetCheck, check_own_way, classes_of_frozen, drawn_rows
from tsynd_sk._skorch._nets import (
    ComparedNet,
    Schedule,
    bare_module,
    check_autoencoder,
    check_device,
    check_net,
    clone_net,
    copy_net,
    device_of,
    let_schedules_resume,
    parts_of,
    scoped_seed,
    unfreeze,
    without_global_rng,
)
from tsynd_sk._skorch._prediction import log_proba_head, network_of, scores_head
from tsynd_sk._skorch._progress import (
    CallbackSupportMixin,
    EpochTasks,
    Task,
    TrainingBar,
    rows_in_epoch,
)
from tsynd_sk._skorch._training import (
    SizedFromData,
    dry_run,
    fit_net,
    initialize_by_sizes,
    is_sized_from_data,
)
