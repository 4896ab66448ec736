//! Loops on libtorch's threads.

use std::ffi::c_void;

unsafe extern "C" {
    fn polya_parallel(count: i64, task: extern "C" fn(*mut c_void, i64), context: *mut c_void);
}

struct Chunks<'a, T, F> {
    items: *mut T,
    length: usize,
    size: usize,
    task: &'a F,
}

/// Runs `task` once for each chunk of `size` items (the last may be shorter) with the chunk's index, on as many threads
/// as libtorch has. A panic in a task ends the process.
pub(crate) fn for_each_chunk<T: Send, F: Fn(usize, &mut [T]) + Sync>(items: &mut [T], size: usize, task: F) {
    let count = items.len().div_ceil(size.max(1));
    if count <= 1 || tch::get_num_threads() <= 1 {
        items.chunks_mut(size.max(1)).enumerate().for_each(|(index, chunk)| task(index, chunk));
        return;
    }
    let mut chunks = Chunks { items: items.as_mut_ptr(), length: items.len(), size, task: &task };
    // SAFETY: the call returns after the last task, so `chunks` outlives them; each index is passed once.
    unsafe { polya_parallel(count as i64, run::<T, F>, std::ptr::from_mut(&mut chunks).cast()) }
}

extern "C" fn run<T: Send, F: Fn(usize, &mut [T]) + Sync>(context: *mut c_void, index: i64) {
    // SAFETY: `for_each_chunk` passes its own `Chunks` of the same types and only reads them meanwhile; chunks of
    // different indices do not overlap, and each is inside the slice that is borrowed for the call.
    let (chunk, task) = unsafe {
        let chunks = &*context.cast::<Chunks<T, F>>();
        let start = index as usize * chunks.size;
        let length = chunks.size.min(chunks.length - start);
        (std::slice::from_raw_parts_mut(chunks.items.add(start), length), chunks.task)
    };
    task(index as usize, chunk);
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn a_loop_has_as_many_threads_as_libtorch() {
        let before = tch::get_num_threads();
        for threads in [1, 2, 3] {
            tch::set_num_threads(threads);
            let mut seen = [None; 3];
            super::for_each_chunk(&mut seen, 1, |_, seen| seen[0] = Some(std::thread::current().id()));
            let seen: HashSet<_> = seen.into_iter().map(Option::unwrap).collect();
            assert_eq!(seen.len(), threads as usize);
        }
        tch::set_num_threads(before);
    }

    #[test]
    fn every_chunk_is_visited_once() {
        let mut items = vec![0u32; 1003];
        super::for_each_chunk(&mut items, 10, |index, chunk| {
            chunk.iter_mut().for_each(|item| *item += index as u32 + 1)
        });
        assert!(items.iter().enumerate().all(|(index, item)| *item == index as u32 / 10 + 1));
    }
}
