"""The learning of local patterns by the clusters of an expander memory as a numba kernel."""

from typing import no_type_check

from numba import njit

REJECT, ALLOW, REPAIR = 0, 1, 2


@njit(cache=True, nogil=True)
@no_type_check
def learn(bits, C, constraint_degrees, permitted, policy, recruited, conflicts):
    """Show samples to one cluster after another: ``permitted`` and the counts change, under ``REPAIR`` ``bits`` too."""
    for sample in range(bits.shape[0]):
        for j in range(C.shape[0]):
            local = 0
            for k in range(constraint_degrees[j]):
                local |= int(bits[sample, C[j, k]]) << k
            if permitted[j, local]:
                continue
            near, nearest = -1, -1
            for k in range(constraint_degrees[j]):
                other = local ^ (1 << k)
                if permitted[j, other] and (near < 0 or other < nearest):
                    near, nearest = k, other
            conflicts[sample] += near >= 0
            if near < 0 or policy == ALLOW:
                permitted[j, local] = True
                recruited[sample] += 1
            elif policy == REPAIR:
                bits[sample, C[j, near]] ^= 1
