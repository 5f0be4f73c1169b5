"""Members of one network by fixed dropout."""

from __future__ import annotations

from tsynd_sk.members._fixed_noise import FixedNoiseMembers


class DropoutMembers(FixedNoiseMembers):
    """Members of one network by fixed dropout (Monte Carlo dropout [1]_).

    Noise is drawn once for each member, fixed, and shared by the rows of a batch: that of torch's
    dropout layers and functions, the dropout of attention weights, stochastic depth, and layers
    registered by `tsynd_sk.members.register_stochastic`. (Rows are the first axis of a layer's
    input; in sequences of shape (length, n, ...), positions share the noise.)

    Other dropout is off, as in evaluation mode, and a warning names its layer: dropout between the
    layers of LSTM, GRU and RNN, ``dropout_p`` of ``scaled_dot_product_attention``, and what a
    network does under ``if self.training``. Forward hooks of the network are called in its private
    copy.

    Parameters
    ----------
    module : Module
        Network with dropout or other random layers.
    to_log_proba : callable
        Turns the output of the network into log-probabilities of shape (n_samples, n_classes).
    n_members : int, default=16
        Number of draws.
    seed : int, default=0
        Seed of the draws. Equal seeds give equal members, whatever the batch and the device.
    device : torch.device or None, default=None
        Device to predict on; by default that of the network.
    restrict : None, "last", int or sequence of str, default=None
        Layers to keep random; the others are off, as in evaluation mode. ``None``: all; "last":
        the last one in the forward pass; an int: that many last ones, or all if there are fewer;
        names: these layers and those within them. This is an approximation, which ignores the
        uncertainty of earlier layers; but everything before the first random layer is computed
        once for all members, so late ones cost hardly anything.
    decisions : dict or None, default=None
        How members are computed, by the shape of one row of the inputs. Missing entries are found
        by a few forward passes at the first call, and written into the dict. Pass the same dict to
        later members of the same network to skip this.

    Raises
    ------
    TypeError
        If `module` is a ``torch.jit.ScriptModule``.
    ValueError
        At a call, if nothing in the network is random, if something draws random numbers in a way
        that cannot be fixed, or if `restrict` names no random layer.

    See Also
    --------
    LaplaceMembers : For a network without random layers.
    EnsembleMembers : For several networks.
    register_stochastic : Make a random layer of your own known.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import DropoutMembers
    >>> from tsynd_sk.uncertainty import mutual_information
    >>> net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    >>> members = DropoutMembers(net, lambda logits: logits.log_softmax(-1), n_members=4)
    >>> log_probs = members(torch.ones(5, 8))
    >>> log_probs.shape
    torch.Size([4, 5, 3])
    >>> bool((mutual_information(log_probs) > 0).all())
    True
    """
