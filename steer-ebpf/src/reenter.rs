//! A packet that was held comes in once more.

use aya_ebpf::{
    bindings::BPF_F_INGRESS, helpers::bpf_clone_redirect, macros::classifier, programs::TcContext,
};

/// Lets a frame come in by the interface whose index stands in `cb[0]`; zero if it did. Attached nowhere: user space runs
/// it with the frame.
#[classifier]
pub fn reenter(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the kernel hands the program a valid context.
    let ifindex = unsafe { (*skb).cb[0] };
    // SAFETY: the helper takes the context and numbers.
    unsafe { bpf_clone_redirect(skb, ifindex, u64::from(BPF_F_INGRESS)) as i32 }
}
