//! Who writes, as far as the guards care.

use tmc_apimachinery::user::{GROUP_CONTROLLERS, GROUP_MASTERS, UserInfo};

/// Group of the virtual workspaces' writes: they have checked the agent behind a write and
/// transformed it, so they may change reserved keys.
pub const GROUP_VIRTUAL_WORKSPACE: &str = "system:tmc:virtual-workspace";

/// Who writes, as far as the guards care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// This project's controllers.
    Controller,
    /// A virtual workspace, for an agent.
    VirtualWorkspace,
    /// The break-glass group: may remove reserved keys, never set them.
    Master,
    /// Everybody else, agents that write directly included.
    User,
}

impl Writer {
    /// Classifies a user by groups, compared exactly; the most trusted wins.
    pub fn of(user: &UserInfo) -> Self {
        if user.in_group(GROUP_CONTROLLERS) {
            Self::Controller
        } else if user.in_group(GROUP_VIRTUAL_WORKSPACE) {
            Self::VirtualWorkspace
        } else if user.in_group(GROUP_MASTERS) {
            Self::Master
        } else {
            Self::User
        }
    }

    /// Whether reserved keys are its to write.
    pub fn may_write_reserved_keys(self) -> bool {
        matches!(self, Self::Controller | Self::VirtualWorkspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_known_by_its_groups_and_not_by_its_name_or_by_similar_groups() {
        let of = |name: &str, groups: &[&str]| Writer::of(&UserInfo::new(name, groups));
        assert_eq!(of("x", &["system:tmc:controllers"]), Writer::Controller);
        assert_eq!(
            of("x", &["system:masters", "system:tmc:controllers"]),
            Writer::Controller
        );
        assert_eq!(
            of("x", &["system:tmc:virtual-workspace"]),
            Writer::VirtualWorkspace
        );
        assert_eq!(of("x", &["system:masters"]), Writer::Master);
        assert_eq!(of("system:tmc:controllers", &[]), Writer::User);
        assert_eq!(
            of("x", &["system:tmc:controllers:x", "system:kcp:admin"]),
            Writer::User
        );
        assert_eq!(Writer::of(&UserInfo::anonymous()), Writer::User);
    }
}
