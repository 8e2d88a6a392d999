//! Bad input on real processes: the node lives, who sent it is told what is wrong, the log has one
//! line for it, and clients do not notice.

mod cluster;
mod crowd;
mod databases;
mod files;
mod greedy;
mod limits;
mod load;
mod messages;
mod peer;
mod space;
mod strangers;
